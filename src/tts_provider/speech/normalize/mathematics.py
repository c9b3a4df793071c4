"""Formulas without markup: what x and a hyphen are between numbers and variables."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize.pattern import CURRENCY

_VARIABLE = "[b-z]"
_MINUS = re.compile(rf" - (?<=(?<![\w'.]){_VARIABLE} - )(?=(?:{_VARIABLE}|[0-9]+)(?![^\W_]))")
_NEGATIVE = re.compile(
    rf"-(?<![\w)\]-].)(?={_VARIABLE}(?: [-+*/=<>×÷] |\^|²|³))"
    rf"|-(?<=[=+*/(<>] -)(?={_VARIABLE}(?![^\W_]))"
)
# 23 x 5 = 115, 4 X 3, 2 x $5; a size has a unit or nothing behind it.
_TIMES = re.compile(
    rf"(?<=[0-9]) ?x ?(?=[0-9.,]{{1,20}} ?=)|(?<=[0-9]) X (?=[0-9])"
    rf"|(?<=[0-9]) ?[xX] ?(?={CURRENCY}[0-9])"
)
_CHAIN_TIMES = re.compile(r"(?<=[0-9]) ?x ?(?=[0-9.,]{1,20} ?×)")
_OVER = re.compile(r"/(?<=\^[0-9]/)(?=[0-9A-Za-z(])")


def read_mathematics(text: MappedText) -> MappedText:
    if "-" in text:
        text = text.sub(_MINUS, " minus ")
        text = text.sub(_NEGATIVE, "minus ")
    if "/" in text:
        text = text.sub(_OVER, " over ")
    if "x" in text or "X" in text:
        text = text.sub(_TIMES, " × ").sub(_CHAIN_TIMES, " × ")
    return text
