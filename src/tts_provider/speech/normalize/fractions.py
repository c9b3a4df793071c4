"""Fractions → words."""

from __future__ import annotations

import re
from functools import lru_cache

from tts_provider.speech.mapped_text import MappedText, Replacement, part
from tts_provider.speech.normalize.numbers import (
    cardinal,
    integer,
    number,
    ordinal,
    plural,
    spelled,
)
from tts_provider.speech.normalize.pattern import LETTER, as_words
from tts_provider.speech.normalize.units import UNIT, plural_unit, unit_name

_MIXED_NUMBER = re.compile(
    r"([0-9](?<![0-9].)(?<![0-9][/.,].)[0-9]{0,2}) (?=[0-9]{1,3}/[0-9]{1,3}(?![0-9/]))"
)
_FRACTION = re.compile(
    rf"(?P<digits>[0-9](?<!\w.)(?<![0-9][/.,].)[0-9]*(?:/[0-9]+)+)(?:(?i:(?:st|nd|rd|th)s?)(?!{LETTER}))?"
    rf"(?: ?(?P<unit>{UNIT})(?!{LETTER}|[0-9]))?"
)
_SCORE = re.compile(
    r"(?P<got>[0-9](?<![\w/.,].)[0-9]{0,2}(?:\.[0-9])?)(?P<stroke>/)(?P<of>10|5|100|20|50)(?![\w/]|[.,][0-9])"
    r"(?P<after> (?:stars?|would|recommend|review|rating|points?|on (?:the|a|Rotten|IMDb))\b)?"
)
_RATES = re.compile(
    r"\b(?:rat(?:e[ds]?|ings?)|scor(?:e[ds]?|ing)|gave|gives?|giving|solid|reviews?|pain|verdict|marks?|grade"
    r"|deserves?|earned|easy|perfect|hotel|movie|film|test|exam|quiz)\b[^.!?0-9]{0,30}\Z",
    re.IGNORECASE,
)
_FIXED_FRACTIONS = {"24/7": "twenty-four seven", "9/11": "nine eleven"}


def read_fractions(text: MappedText) -> MappedText:
    if "/" not in text:
        return text
    text = text.sub(_SCORE, _score)
    return text.sub(_MIXED_NUMBER, r"\1 and ").sub(_FRACTION, _fraction)


def _score(match: re.Match[str]) -> Replacement:
    """`8/10` where somebody rates; elsewhere it is a fraction."""
    if float(match["got"]) > int(match["of"]):
        return match[0]
    alone = match.string.strip(" .!?") == match[0] and match["of"] == "10"
    rated = _RATES.search(match.string, max(0, match.start() - 48), match.start()) is not None
    measured = match.string[match.end() : match.end() + 4] == " of "
    full = match["got"] == match["of"] == "10"
    if measured or not (alone or rated or full or match["after"]):
        return match[0]
    after = (part(match, "after"),) if match["after"] else ()
    words = part(match, "got", number(match["got"])), part(match, "stroke", " out of ")
    return as_words(match, *words, part(match, "of", cardinal(match["of"])), *after)


def _fraction(match: re.Match[str]) -> Replacement:
    mixed = match.string.endswith(" and ", 0, match.start()) and (
        match.string[match.start() - 6 : match.start() - 5].isdigit()
    )
    words = part(match, "digits", _in_words(match["digits"], mixed))
    if not match["unit"]:
        return as_words(match, words.text)
    unit = unit_name(match["unit"])
    return as_words(match, words, " ", part(match, "unit", plural_unit(unit) if mixed else unit))


@lru_cache(maxsize=4096)
def _in_words(digits: str, mixed: bool) -> str:
    if digits in _FIXED_FRACTIONS:
        return _FIXED_FRACTIONS[digits]
    parts = digits.split("/")
    if len(parts) > 2 or (len(parts[1]) > 4 and not parts[1].endswith("00")):
        return ", ".join(_piece(part) for part in parts)
    if parts[0] == parts[1]:
        return f"{integer(parts[0])} {integer(parts[1])}"
    if max(map(len, parts)) > 2 or int(parts[1]) < 2:
        return f"{integer(parts[0])} over {integer(parts[1])}"
    if mixed and parts[0] == "1" and int(parts[1]) in (2, 4):
        return f"a {_part(str(int(parts[1])))}"
    return _parts_of_a_whole(parts[0], str(int(parts[1])))


def _piece(digits: str) -> str:
    """A part of somebody's reference number, 123/261788/2021."""
    return spelled(digits) if len(digits) > 4 and not digits.endswith("00") else integer(digits)


def _part(denominator: str) -> str:
    return {"2": "half", "4": "quarter"}.get(denominator) or ordinal(denominator)


def _parts_of_a_whole(numerator: str, denominator: str) -> str:
    part = _part(denominator)
    if numerator == "1":
        return f"one {part}"
    return f"{cardinal(numerator)} {'halves' if part == 'half' else plural(part)}"
