"""SSML's `<say-as>`: a text read as what its writer says it is."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.dates import say_date
from tts_provider.speech.normalize.numbers import ordinal, spelled
from tts_provider.speech.normalize.telephones import telephone

SAY_AS = (
    "characters", "spell-out", "digits", "telephone", "date", "time", "ordinal", "cardinal",
    "number", "fraction", "unit", "currency", "address", "verbatim",
)  # fmt: skip
"""Values of `interpret-as`. Those that are not read here are read as they would be anyway."""


def say_as(text: str, kind: str, order: str = "") -> str:
    """The text that is read as words instead of `text`."""
    if kind in ("characters", "spell-out", "verbatim"):
        return " ".join(
            spelled(c) if c in "0123456789" else "A" if c == "a" else c
            for c in text
            if not c.isspace()
        )
    if kind == "digits":
        return re.sub("[0-9]+", lambda run: f" {spelled(run[0])} ", text).strip()
    if kind == "telephone" and re.search("[0-9]", text):
        return telephone(text.strip())
    if kind == "date":
        return say_date(text, order)
    if kind == "ordinal" and re.fullmatch("[0-9]{1,36}", text.strip()):
        return ordinal(text.strip())
    return text
