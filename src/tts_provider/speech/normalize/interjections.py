"""Sounds that people write → a spelling that is read as that sound, and not as letters."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText

_SOUNDS = {
    "sh": "shush", "ps": "pist", "hm": "humph", "ts": "tisk", "br": "burr", "gr": "gurr",
    "zz": "zuzz", "pf": "pift",
}  # fmt: skip
_SOUND = re.compile(
    r"(?i:(?=[shptbgz])(?<![^\W_])(?:shh{1,9}|ps{1,9}t|hmph|tsk|brr{1,9}|grr{1,9}|zzz{1,9}|pff{1,9}t)"
    r"(?![^\W_]|['’]))"
)


def read_interjections(text: MappedText) -> MappedText:
    return text.sub(_SOUND, _sound)


def _sound(match: re.Match[str]) -> str:
    if match[0] == "PST":  # Pacific time
        return match[0]
    said = _SOUNDS[match[0][:2].lower()]
    return said.capitalize() if match[0][0].isupper() else said
