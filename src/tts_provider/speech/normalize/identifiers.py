"""What names a thing rather than counts one: seats, rooms, codes, versions."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, spelled, two_digits
from tts_provider.speech.normalize.pattern import LETTER, as_words

_PLACE = (
    "seats?|gates?|bus|buses|route|unit|level|room|platform|row|apt|apartment|flat|suite|line|exit|terminal"
    "|bay|block|building|bldg|floor|lot|section|figure|fig|table|channel|highway|interstate|zone"
    "|pier|stand|track|berth|cabin|class|grade|question|exercise|chapter|model|type|stage|tier"
    "|phase|step|part|page|group|tram|train|coach|car|house|box|locker|desk|aisle|shelf|door|hall"
)
_NUMBER_AND_LETTER = re.compile(
    rf"(?<!{LETTER})(?P<what>(?i:{_PLACE})(?:\.? #?| (?:is|number|no\.) ))"
    r"(?P<number>[0-9]{1,4})(?P<letter>[A-Z])(?![\w'])"
)
_ROOM = re.compile(
    rf"(?<!{LETTER})(?P<what>(?i:rooms?|suite|apartment|apt\.?|ward|office|cabin|locker) #?)"
    r"(?P<number>[1-9][0-9]{2,3})(?![\w]|[.,:/-][0-9])"
)
_LEADING_ZERO = re.compile(
    rf"(?<!{LETTER})(?P<what>(?i:chapter|part|lesson|episode|section|unit|module|week|day|level|track"
    r"|volume|step|question|exercise|figure|season|page|act|scene|verse|book|phase|stage|round) )"
    r"(?P<number>0{1,2}[1-9][0-9]?)(?![\w]|[.,:/-][0-9])"
)
_HEXADECIMAL = re.compile(r"0(?<![\w.].)[xX]([0-9A-Fa-f]{1,16})(?![\w])")
_MAC = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}(?![\w:-])"
)
_CODEC = re.compile(r"(?<![\w.])([A-Z])\.([0-9]{3})(?![\w]|\.[0-9])")
_WILDCARD = re.compile(r"(?<=[0-9])\.([xX])(?![\w])")
_HIDDEN = re.compile(
    r"\.(?<![\w.)\]\"'/~@-].)(NET|net|env|gitignore|com|org|io|edu|gov|py|js|ts|txt|pdf|csv|json|md|html|css|exe"
    r"|zip|wav|mp3|png|jpg|docx?|xlsx?|yaml|toml|bashrc|config|git|ssh|app|dev)(?![\w])"
)
_HOURS = re.compile(
    r"(?<![\w.,:/-])(?<!took )(?<!takes )(?<!for )(?<!than )(?<!spent )(?<!over )(?<!about )"
    r"(?<!nearly )(?<!least )(?<!most )(?<!to )(?<!some )"
    r"([01][0-9]|2[0-4])([0-5][0-9])(?=(?: hours?|hrs?)(?! (?:of|a|per|each|with|in)\b)(?!\w))"
)


def read_identifiers(text: MappedText) -> MappedText:
    text = text.sub(_MAC, _mac)
    text = text.sub(_HEXADECIMAL, lambda match: as_words(match, f"zero x {_characters(match[1])}"))
    text = text.sub(_NUMBER_AND_LETTER, _number_and_letter)
    text = text.sub(
        _ROOM, lambda match: (part(match, "what"), part(match, "number", _pairs(match["number"])))
    )
    text = text.sub(
        _LEADING_ZERO,
        lambda match: (
            part(match, "what"),
            part(match, "number", cardinal(match["number"].lstrip("0"))),
        ),
    )
    text = text.sub(
        _CODEC,
        lambda match: as_words(match, part(match, 1), " dot ", part(match, 2, spelled(match[2]))),
    )
    text = text.sub(_WILDCARD, r" point \1")
    return text.sub(_HOURS, _hours)


def read_hidden_names(text: MappedText) -> MappedText:
    """`.NET`, `.env`: before a point that nothing stands before is dropped."""
    return text.sub(_HIDDEN, lambda match: as_words(match, f"dot {match[1].lower()}"))


def _characters(digits: str) -> str:
    return " ".join(spelled(one) if one.isdigit() else one.upper() for one in digits)


def _mac(match: re.Match[str]) -> Replacement:
    return as_words(match, ", ".join(map(_characters, re.split("[:-]", match[0]))))


def _number_and_letter(match: re.Match[str]) -> Replacement:
    return (
        part(match, "what"),
        part(match, "number", _pairs(match["number"])),
        " ",
        part(match, "letter"),
    )


def _pairs(digits: str) -> str:
    """Digits in pairs, as for door numbers: one oh one, twelve oh four."""
    first, last = digits[:-2], digits[-2:]
    if len(digits) == 4 and last == "00" and digits[1] != "0":
        return f"{cardinal(first.lstrip('0'))} hundred"
    if len(digits) < 3 or last == "00" or (len(digits) == 4 and digits[1] == "0"):
        return cardinal(digits.lstrip("0") or "0")
    return f"{cardinal(first.lstrip('0') or '0')} {two_digits(last)}"


def _hours(match: re.Match[str]) -> str:
    hour = two_digits(match[1]) if match[1] != "00" else "zero"
    return hour + (" hundred" if match[2] == "00" else f" {two_digits(match[2])}")
