"""Years, eras and decades → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, plural, two_digits
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, as_words

_DECADE = re.compile(
    rf"(?<![\w.,])((?:1[1-9]|20)[0-9]0)(?:'?s| s(?= |\Z))(?!{LETTER})"
    rf"|'?((?:(?<=')|(?<=[Tt]he )|(?<=his )|(?<=her )|(?<=their )|(?<=early )|(?<=mid )|(?<=mid-)"
    rf"|(?<=late )|(?<=0s-)|(?<=0s to )|(?<=0s and ))[1-9]0)'?s(?!{LETTER})"
    rf"|(?<![\w.,$'])([2-9]0)'s(?= [a-z])"
)
_DECADE_RANGE = re.compile(r"(?<=[0-9]0s)-(?='?(?:1[1-9]|20)?[0-9]0s)")
_ERA = re.compile(rf"(?<=[0-9] )(A\.?D|B\.?C(?:\.?E)?|C\.?E)\.?(?!{LETTER})")
_YEAR_CUE = (
    r"(?:(?P<sure>[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Cc]irca|[Yy]ear|[Aa]nno|[Ss]pring|[Ss]ummer"
    r"|[Aa]utumn|[Ff]all|[Ww]inter|[Cc]opyright|©)"
    r"|(?P<likely>[Ff]rom|[Tt]o|[Oo]f|[Bb]y|[Bb]efore|[Aa]fter|[Bb]etween|[Aa]nd|[Ll]ate)) "
)
_YEAR = re.compile(
    rf"(?:(?<!{LETTER}){_YEAR_CUE})?(?<![0-9])(?<![0-9][.,:/])(?<!{LETTER})(?<!{CURRENCY})"
    rf"(?P<year>(?:1[0-9]|20)[0-9]{{2}})(?![0-9]|[.,:/][0-9]|{LETTER}| by [0-9])"
    r"(?P<era> (?:BCE?|AD|CE)\b)?"
)
_OTHER_YEAR = re.compile(
    r"(?<![\w.,])([1-9][0-9]{1,2})(?= (?:BCE?|AD|CE)\b)"
    r"|(?<=\bAD )([1-9][0-9]{1,2})(?![\w]|[.,][0-9])"
)
_DECADE_OR_ERA = re.compile(r"0'?s|0 s|[0-9] [ABC]")
_FOUR_DIGITS = re.compile("[0-9]{4}")
_NAMED_ERA = re.compile("AD|BC|CE")
_COUNTED_NOUN = re.compile(
    r" (?:[a-z]+[^\Wsiua]s|people|men|women|children|other|more|different)\b"
)


def read_years(text: MappedText) -> MappedText:
    if text.search(_NAMED_ERA):
        text = text.sub(
            _OTHER_YEAR, lambda match: as_words(match, _short_year(match[1] or match[2]))
        )
    return text.sub(_YEAR, _year_in_context) if text.search(_FOUR_DIGITS) else text


def read_decades(text: MappedText) -> MappedText:
    if not text.search(_DECADE_OR_ERA):
        return text
    text = text.sub(_ERA, lambda match: match[1].replace(".", ""))
    text = text.sub(_DECADE_RANGE, " to ")
    return text.sub(_DECADE, _decade)


def _decade(match: re.Match[str]) -> Replacement:
    decade = year_in_words(match[1]) if match[1] else cardinal(match[2] or match[3])
    return as_words(match, plural(decade))


def _short_year(digits: str) -> str:
    if len(digits) < 3 or digits[1:] == "00":
        return cardinal(digits)
    return f"{cardinal(digits[0])} {two_digits(digits[1:])}"


def _year_in_context(match: re.Match[str]) -> Replacement:
    """1900 to 2099 are years unless they count something; earlier ones need a word that says so,
    or stand alone."""
    counts = _COUNTED_NOUN.match(match.string, match.end())
    alone = match.string.strip(" .!?\"'") == match["year"]
    likely = match["year"] >= ("1100" if match["likely"] or alone else "1900")
    if match["sure"] or match["era"] or (likely and not counts):
        cue = match.string[match.start() : match.start("year")]
        return as_words(
            match,
            Part(cue, match.start(), match.start("year")),
            part(match, "year", year_in_words(match["year"])),
            *([part(match, "era")] if match["era"] else []),
        )
    return match[0]


def any_year(digits: str) -> str:
    return year_in_words(digits) if "1100" <= digits <= "2099" else cardinal(str(int(digits)))


def year_in_words(digits: str) -> str:
    century, rest = digits[:2], digits[2:]
    if digits[1:3] == "00":
        return cardinal(digits)
    return f"{cardinal(century)} {'hundred' if rest == '00' else two_digits(rest)}"
