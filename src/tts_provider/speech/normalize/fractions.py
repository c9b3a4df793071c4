"""Fractions → words."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.numbers import cardinal, integer, ordinal, plural
from tts_provider.speech.normalize.pattern import LETTER, as_words
from tts_provider.speech.normalize.units import UNIT, plural_unit, unit_name

_MIXED_NUMBER = re.compile(
    r"(?<![0-9])(?<![0-9][/.,])([0-9]{1,3}) (?=[0-9]{1,3}/[0-9]{1,3}(?![0-9/]))"
)
_FRACTION = re.compile(
    rf"(?<![0-9\w])(?<![0-9][/.,])(?P<digits>[0-9]+(?:/[0-9]+)+)(?:(?i:(?:st|nd|rd|th)s?)(?!{LETTER}))?"
    rf"(?: ?(?P<unit>{UNIT})(?!{LETTER}|[0-9]))?"
)
_FIXED_FRACTIONS = {"24/7": "twenty-four seven", "9/11": "nine eleven"}


def read_fractions(text: str) -> str:
    return _FRACTION.sub(_fraction, _MIXED_NUMBER.sub(r"\1 and ", text))


def _fraction(match: re.Match[str]) -> str:
    digits = match["digits"]
    parts = digits.split("/")
    mixed = match.string.endswith(" and ", 0, match.start()) and (
        match.string[match.start() - 6 : match.start() - 5].isdigit()
    )
    if digits in _FIXED_FRACTIONS:
        words = _FIXED_FRACTIONS[digits]
    elif len(parts) > 2:
        words = " slash ".join(integer(part) for part in parts)
    elif parts[0] == parts[1]:
        words = f"{integer(parts[0])} {integer(parts[1])}"
    elif max(map(len, parts)) > 2 or int(parts[1]) < 2:
        words = f"{integer(parts[0])} over {integer(parts[1])}"
    elif mixed and parts[0] == "1" and int(parts[1]) in (2, 4):
        words = f"a {_part(str(int(parts[1])))}"
    else:
        words = _parts_of_a_whole(parts[0], str(int(parts[1])))
    if match["unit"]:
        unit = unit_name(match["unit"])
        words += f" {plural_unit(unit) if mixed else unit}"
    return as_words(match, words)


def _part(denominator: str) -> str:
    return {"2": "half", "4": "quarter"}.get(denominator) or ordinal(denominator)


def _parts_of_a_whole(numerator: str, denominator: str) -> str:
    part = _part(denominator)
    if numerator == "1":
        return f"one {part}"
    return f"{cardinal(numerator)} {'halves' if part == 'half' else plural(part)}"
