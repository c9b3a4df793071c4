"""Short names of days, and from when to when, by day or month → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Replacement, part
from tts_provider.speech.normalize.dates import MONTHS
from tts_provider.speech.normalize.pattern import any_of, full_stop

# fmt: off
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Weds": "Wednesday",
    "Thu": "Thursday", "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday",
    "Sun": "Sunday",
}
# fmt: on
_SHORT = DAYS | {month[:3]: month for month in MONTHS} | {"Sept": "September"}
_LOUD = {name.upper(): full for name, full in _SHORT.items()}
_NAME = any_of({*_SHORT, *_SHORT.values(), *_LOUD})
_FROM = re.compile(
    rf"(?<![\w'-])(?P<first>{_NAME})(?P<dot>\.)?(?P<day> [0-9]{{1,2}}(?:st|nd|rd|th)?)?"
    rf"(?: ?[-–—] ?|(?P<or>/| ?& ?))(?=(?P<last>{_NAME})(?![^\W\d_]))"
)
_AFTER = re.compile(rf"(?<= (?:to) )(?P<name>{any_of({*_SHORT, *_LOUD})})(?P<dot>\.)?(?![^\W\d_])")
_AFTER_AND = re.compile(
    rf"(?<=day and )(?P<name>{any_of({*DAYS, *(day.upper() for day in DAYS)})})(?P<dot>\.)?"
    r"(?![^\W\d_])"
)
_DAY = re.compile(rf"(?<![\w'-])(?P<name>{any_of(DAYS)})(?P<dot>\.)?(?![^\W\d_]|['’])")
_BEFORE = re.compile(r"([A-Za-z]+,?|[0-9]) \Z")
_TIME_AFTER = re.compile(r",? (?:at )?[0-9]|,? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)")

_GOES_ON = re.compile(
    r" (?:at|and|to|or|is|was|through|thru|morning|afternoon|evening|night|until|till|by|in)\b"
)


def read_calendar(text: MappedText) -> MappedText:
    """`Mon-Fri`, `Jan–Mar 2024`, `See you Mon.`; "Sun" and "May" alone are words."""
    text = text.sub(_FROM, _from)
    text = text.sub(_AFTER, _short)
    text = text.sub(_AFTER_AND, _short)
    return text.sub(_DAY, _day)


def _from(match: re.Match[str]) -> Replacement:
    both = {match["first"].title(), match["last"].title()}
    if match["or"] and not both <= _ALL_DAYS:
        return match[0]
    name = (_SHORT | _LOUD).get(match["first"], match["first"])
    day = (part(match, "day"),) if match["day"] else ()
    return part(match, "first", name), *day, " and " if match["or"] else " to "


_ALL_DAYS = {*DAYS, *DAYS.values()}


def _short(match: re.Match[str]) -> Replacement:
    name = (_SHORT | _LOUD)[match["name"]]
    return name + (full_stop(match) if match["dot"] else "")


def _day(match: re.Match[str]) -> Replacement:
    name = match["name"]
    before = _BEFORE.search(match.string, max(0, match.start() - 16), match.start())
    previous = before[1] if before else ""
    is_timed = _TIME_AFTER.match(match.string, match.end()) is not None
    after = match.string[match.end() : match.end() + 2]
    if previous in ("on", "by", "until", "till", "from", "next", "last", "every", "this", "since"):
        is_day = name != "Sun" or is_timed or previous in ("next", "last", "every")
    elif is_timed or previous.rstrip(",") in _ALL_DAYS:
        is_day = True
    elif name in ("Sun", "Sat", "Wed"):
        is_day = match["dot"] is not None and bool(previous) and previous not in ("the", "The")
        is_day = is_day and name != "Sun"
    elif name in ("Mon", "Fri"):
        is_day = match["dot"] is not None or not (after[:1] == " " and after[1:].isalpha())
        is_day = is_day or _GOES_ON.match(match.string, match.end()) is not None
    else:
        is_day = True
    return _short(match) if is_day else match[0]
