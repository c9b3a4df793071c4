"""Roman numerals → words, where what stands before them says that they are numbers."""

from __future__ import annotations

import re

from tts_provider.speech.abbreviations import SENTENCE_STARTS
from tts_provider.speech.mapped_text import MappedText, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, ordinal
from tts_provider.speech.normalize.pattern import any_of

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
NUMERAL = r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_COUNTED = re.compile(
    r"(?i:(?=[pcvbaswtlgmfued])(?<![^\W\d_])(chapters?|parts?|volumes?|vol\.|books?|acts?|scenes?|sections?|articles?|titles?|phases?"
    r"|types?|class|levels?|grades?|stages?|appendix|annex|figure|table|war|bowl|mark|psalm|canto"
    rf"|lesson|unit|episode|season|division|group|factor)) "
    rf"({NUMERAL}|(?=[ivx]{{2}})x{{0,3}}(?:ix|iv|v?i{{0,3}}))(?![^\W\d_]|['’](?!s\b))"
)
# fmt: off
_RULERS = """
    Albert Alexander Alfonso Alfred Anne Augustus Baldwin Benedict Boniface Carl Catherine
    Charles Christian Clement Constantine Cyrus Darius David Edmund Edward Elizabeth Eric
    Ferdinand Francis Frederick Friedrich Gabriel George Gregory Gustav Haakon Harald Heinrich
    Henri Henry Innocent Isabella Ivan James John Joseph Juan Julius Justinian Karl Leo Leopold
    Louis Malcolm Manuel Margaret Maria Mary Maximilian Mehmed Michael Murad Napoleon Nicholas
    Olaf Otto Paul Pedro Peter Philip Pius Ptolemy Ramesses Ramses Richard Robert Rudolf Sam
    Selim Sixtus Stephen Theodosius Thomas Umberto Urban Victoria Vittorio Vladimir Wilhelm
    William Xerxes
""".split()  # noqa: SIM905
# fmt: on
_RULER = re.compile(
    rf"(?=[A-Z])(?<![^\W\d_])({any_of(_RULERS)})((?:'s)?) ({NUMERAL})(?![^\W\d_]|['’](?!s\b))"
)
# The number of a heading, `IV.`, which is a sentence of its own.
_HEADING = re.compile(r"\A((?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3}))(?=\.(?:\Z| [A-Z]))")
# Two letters at least, and none that measure or spell something else: XL, CD, MD, DC.
_NAMED = re.compile(
    r"(?<![^\W\d_])(?<!['’])([A-Z][^\W\d_'’-]+) ((?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3}))"
    r"(?![^\W\d_]|['’-])"
)


def read_roman(text: MappedText) -> MappedText:
    text = text.sub(_HEADING, lambda match: cardinal(str(_value(match[1]))).capitalize())
    text = text.sub(_COUNTED, _counted)
    text = text.sub(_RULER, _ruler)
    return text.sub(_NAMED, _named)


def _counted(match: re.Match[str]) -> Replacement:
    """`Part IV`; but "the chapter I read", "the war I saw", and Part C is a letter."""
    what, numeral = match[1], match[2]
    after = match.string[match.end() : match.end() + 2]
    if numeral in ("C", "D", "L", "M"):
        return match[0]
    if numeral == "I" and what.islower() and after[:1] == " " and after[1:].isalpha():
        return match[0]
    if (
        what.lower() == "war"
        and match.string[max(0, match.start() - 6) : match.start()] != "World "
    ):
        return match[0] if numeral == "I" else _numbered(match)
    return _numbered(match)


def _numbered(match: re.Match[str]) -> Replacement:
    return part(match, 1), " ", part(match, 2, cardinal(str(_value(match[2]))))


def _ruler(match: re.Match[str]) -> Replacement:
    after = match.string[match.end() : match.end() + 2]
    value = _value(match[3])
    numbered = part(match, 1), " ", part(match, 3, f"the {ordinal(str(value))}")
    if after.startswith(("'s", "’s")):
        return numbered
    # "Charles I know" and "Malcolm X" are none; "Elizabeth I," and "Henry III" are.
    if (
        match[2]
        or (value == 1 and (after[:1] == " " and after[1:].islower()))
        or match[3] in "CDLMX"
    ):
        return match[0]
    if value == 1 and (not after or after[0] in "'’"):
        return match[0] if after else numbered
    return numbered


def _named(match: re.Match[str]) -> Replacement:
    return match[0] if match[1].lower() in SENTENCE_STARTS else _numbered(match)


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral.upper()]
    return sum(
        -value if value < following else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
