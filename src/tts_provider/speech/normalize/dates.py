"""Dates, times of day, years and decades → words."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.numbers import cardinal, ordinal, plural, two_digits
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, any_of, as_words, full_stop
from tts_provider.speech.normalize.quantities import counted

# --- Dates ---------------------------------------------------------------------------------------

# fmt: off
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)
# fmt: on
_MONTH_NUMBERS = {name: n for n, month in enumerate(_MONTHS, 1) for name in (month, month[:3])}
_MONTH_NUMBERS["Sept"] = 9
_MONTH = rf"(?<!{LETTER})({any_of(_MONTH_NUMBERS)})(?!{LETTER})(?:\.(?=,? [0-9a-z]))?"
_DAY = rf"([0-9]{{1,2}})(?:st|nd|rd|th)?(?![0-9]|[.,:/][0-9]|{LETTER})"
_YEAR_AFTER = r"(?:,? ([12][0-9]{3})(?![0-9]|[.,:/-][0-9]))?"

_DATE_YEAR_FIRST = re.compile(
    r"(?<![0-9])(?<![0-9][-/.,])([0-9]{4})([-/])([0-9]{1,2})\2([0-9]{1,2})(?![0-9]|[-/][0-9])"
    r"(T(?=[0-9]{2}:))?"
)
_DATE_YEAR_LAST = re.compile(
    r"(?<![0-9])(?<![0-9][-/.,])([0-9]{1,2})([-/])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})"
    r"(?![0-9]|[-/][0-9])"
)
_MONTH_DAY = re.compile(rf"{_MONTH} {_DAY}(?:-([0-9]{{1,2}})(?![0-9]))?{_YEAR_AFTER}")
_DAY_MONTH = re.compile(rf"(?<![0-9])(?<![0-9][.,:/-]){_DAY}(?: of)? {_MONTH}{_YEAR_AFTER}")
_MONTH_YEAR = re.compile(rf"{_MONTH},? ([12][0-9]{{3}})(?![0-9]|[.,:/-][0-9])")


def read_dates(text: str) -> str:
    text = _DATE_YEAR_FIRST.sub(_date_year_first, text)
    text = _DATE_YEAR_LAST.sub(_date_year_last, text)
    text = _DAY_MONTH.sub(_day_month, text)
    text = _MONTH_DAY.sub(_month_day, text)
    return _MONTH_YEAR.sub(
        lambda match: as_words(match, f"{_month(match[1])} {_any_year(match[2])}"), text
    )


def _date_year_first(match: re.Match[str]) -> str:
    date = _date(match[1], int(match[3]), int(match[4]))
    return as_words(match, date + (" at" if match[5] else "")) if date else match[0]


def _date_year_last(match: re.Match[str]) -> str:
    """Month first, as Americans write it, unless only the other order is a date."""
    month, day, year = int(match[1]), int(match[3]), match[4]
    if len(year) == 2:
        if match[2] == "-":
            return match[0]
        year = ("20" if year < "69" else "19") + year  # as strptime's %y
    date = _date(year, month, day) or _date(year, day, month)
    return as_words(match, date) if date else match[0]


def _date(year: str, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"{_MONTHS[month - 1]} {ordinal(str(day))}, {_any_year(year)}"


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    words = f"{_month(match[1])} {ordinal(match[2])}"
    words += f" to {ordinal(match[3])}" if match[3] else ""
    return as_words(match, words + (f", {_any_year(match[4])}" if match[4] else ""))


def _day_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[1]) <= 31:
        return match[0]
    words = f"{ordinal(match[1])} of {_month(match[2])}"
    return as_words(match, words + (f" {_any_year(match[3])}" if match[3] else ""))


def _month(name: str) -> str:
    return _MONTHS[_MONTH_NUMBERS[name] - 1]


def _any_year(digits: str) -> str:
    return year_in_words(digits) if "1100" <= digits <= "2099" else cardinal(str(int(digits)))


# --- Times of day --------------------------------------------------------------------------------

_MERIDIEM = rf"([AaPp])\.?[Mm](?!{LETTER})(\.?)"
_CLOCK = re.compile(
    r"(?<![0-9])(?<![0-9][.,:])([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9]|[.:][0-9])"
    rf"(?: ?(?:{_MERIDIEM}|o'clock(?!{LETTER})))?"
)
_HOUR = re.compile(rf"(?<![0-9])(?<![0-9][.,:])([0-9]{{1,2}}) ?{_MERIDIEM}")


def read_times(text: str) -> str:
    return _HOUR.sub(_hour, _CLOCK.sub(_clock, text))


def _clock(match: re.Match[str]) -> str:
    hour, minute, second, half, dot = match.groups()
    if int(hour) > 24:
        return match[0]
    words = cardinal(str(int(hour)))
    second = second if second != "00" else None
    if minute != "00":
        words += f" {two_digits(minute)}"
    elif not half and not second:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        words += f" and {counted(str(int(second)), 'second')}"
    if half:
        words += f" {half.upper()} M{full_stop(match) if dot else ''}"
    return as_words(match, words)


def _hour(match: re.Match[str]) -> str:
    hour, half, dot = match.groups()
    if not 1 <= int(hour) <= 12:
        return match[0]
    words = f"{cardinal(str(int(hour)))} {half.upper()} M"
    return as_words(match, words + (full_stop(match) if dot else ""))


# --- Years and decades ---------------------------------------------------------------------------

_DECADE = re.compile(
    rf"(?<![\w.,])((?:1[1-9]|20)[0-9]0)'?s(?!{LETTER})"
    rf"|((?:(?<=')|(?<=[Tt]he )|(?<=his )|(?<=her )|(?<=their )|(?<=early )|(?<=mid )|(?<=late ))"
    rf"[1-9]0)'?s(?!{LETTER})"
)
_YEAR_CUE = (
    r"(?:(?P<sure>[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Cc]irca|[Yy]ear)"
    r"|(?P<likely>[Ff]rom|[Tt]o|[Oo]f|[Bb]y|[Bb]efore|[Aa]fter|[Bb]etween|[Aa]nd|[Ll]ate)) "
)
_YEAR = re.compile(
    rf"(?:(?<!{LETTER}){_YEAR_CUE})?(?<![0-9])(?<![0-9][.,:/])(?<!{LETTER})(?<!{CURRENCY})"
    rf"(?P<year>(?:1[0-9]|20)[0-9]{{2}})(?![0-9]|[.,:/][0-9]|{LETTER}| by [0-9])"
    r"(?P<era> (?:BCE?|AD|CE))?"
)
_COUNTED_NOUN = re.compile(
    r" (?:[a-z]+[^\Wsiua]s|people|men|women|children|other|more|different)\b"
)


def read_years(text: str) -> str:
    return _YEAR.sub(_year_in_context, text)


def read_decades(text: str) -> str:
    return _DECADE.sub(_decade, text)


def _decade(match: re.Match[str]) -> str:
    return as_words(match, plural(year_in_words(match[1]) if match[1] else cardinal(match[2])))


def _year_in_context(match: re.Match[str]) -> str:
    """1900 to 2099 are years unless they count something; earlier ones need a word that says so."""
    counts = _COUNTED_NOUN.match(match.string, match.end())
    likely = match["year"] >= ("1100" if match["likely"] else "1900")
    if match["sure"] or match["era"] or (likely and not counts):
        start = match.start("year") - match.start()
        return as_words(
            match, match[0][:start] + year_in_words(match["year"]) + (match["era"] or "")
        )
    return match[0]


def year_in_words(digits: str) -> str:
    century, rest = digits[:2], digits[2:]
    if digits[1:3] == "00":
        return cardinal(digits)
    return f"{cardinal(century)} {'hundred' if rest == '00' else two_digits(rest)}"
