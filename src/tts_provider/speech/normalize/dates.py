"""Dates, weeks and quarters → words."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.numbers import cardinal, ordinal
from tts_provider.speech.normalize.pattern import LETTER, any_of, as_words
from tts_provider.speech.normalize.years import any_year

# fmt: off
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)
# fmt: on
_MONTH_NUMBERS = {
    name: n for n, month in enumerate(MONTHS, 1) for name in (month.lower(), month[:3].lower())
} | {"sept": 9}
# "may", "mar" and "dec" are words too: in small letters they are months only with a full stop, or
# as "5 may 2010".
_NOT_SMALL = r"(?!may\b|mar\b|dec\b|sun\b)"
_NAMES = any_of(_MONTH_NUMBERS)
_MONTH = rf"(?=[ADFJMNOSadfjmnos])(?<!{LETTER})(?P<month>{_NOT_SMALL}(?i:{_NAMES}))(?!{LETTER})"
_DOT = r"(?:\.(?=,? [0-9a-z]))?"
_ANY_MONTH = rf"(?P<month>(?i:{_NAMES}))(?!{LETTER})"
_ENDS = rf"(?![0-9]|[.,:/][0-9]|{LETTER})"
_DAY = rf"(?P<day>[0-9]{{1,2}})(?i:st|nd|rd|th)?{_ENDS}"
_YEAR = r"(?P<year>1[1-9][0-9]{2}|20[0-9]{2})(?![0-9]|[.,:/-][0-9])"

_YEAR_AFTER = rf"(?:,? ?{_YEAR}|-{_YEAR.replace('year', 'year2')})?"

_YEAR_FIRST = re.compile(
    r"([0-9](?<![0-9].)(?<![0-9][-/.,].)[0-9]{3})([-/.])([0-9]{1,2})\2([0-9]{1,2})(?![0-9]|[-/.][0-9])"
    r"(T(?=[0-9]{2}:))?"
)
_YEAR_LAST = re.compile(
    r"([0-9](?<![0-9].)(?<![0-9][-/.,].)[0-9]?)([-/.])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})"
    r"(?![0-9]|[-/.][0-9])"
)
_MONTH_DAY = re.compile(
    rf"{_MONTH}{_DOT}[ -]{_DAY}(?:-(?P<last>[0-9]{{1,2}})(?![0-9]))?{_YEAR_AFTER}"
)
_DAY_MONTH = re.compile(
    rf"(?P<the>\b[Tt]he )?(?<![0-9])(?<![0-9][.,:/-])(?:(?P<from>[0-9]{{1,2}})-)?{_DAY}(?: of)?[ -]"
    rf"{_ANY_MONTH}(?:\.(?=,? [0-9a-z]|\Z))?{_YEAR_AFTER}"
)
_MONTH_YEAR = re.compile(rf"{_MONTH}{_DOT},? {_YEAR}")
_WEEK = re.compile(r"([0-9](?<![\w-].)[0-9]{3})-?W([0-5][0-9])(?:-([1-7]))?(?![\w-])")
_QUARTER = re.compile(
    r"(?P<the>\b[Tt]he )?(?<![\w.-])(?:(?P<q>[1-4])Q|Q(?P<q2>[1-4]))"
    r"(?:(?: of)?[ -]?'?(?P<year>20[0-9]{2}|[0-9]{2}))?(?![\w-]|[.,][0-9])"
)
# Without a cue, or a day that is no denominator, it is a fraction.
_NO_YEAR = re.compile(
    r"(?i:\b(?:due(?: on| by)?"
    r"|(?:on|by|until|before|after|since)(?= [0-9]+/(?:1[3-9]|[23][0-9]))) )"
    r"(1[0-2]|0?[1-9])/(3[01]|[12][0-9]|0?[1-9])(?![\w/]|[.,-][0-9])"
)
_MAY_BE_MONTH = re.compile(f"[ADFJMNOSadfjmnos](?i:{any_of({month[1:3] for month in MONTHS})})")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def read_dates(text: str) -> str:
    text = _WEEK.sub(_week, text)
    if "Q" in text:
        text = _QUARTER.sub(_quarter, text)
    text = _YEAR_FIRST.sub(_year_first, text)
    text = _YEAR_LAST.sub(_year_last, text)
    if "/" in text:
        text = _NO_YEAR.sub(_no_year, text)
    if not _MAY_BE_MONTH.search(text):
        return text
    text = _DAY_MONTH.sub(_day_month, text)
    text = _MONTH_DAY.sub(_month_day, text)
    return _MONTH_YEAR.sub(
        lambda match: as_words(match, f"{_month(match['month'])} {any_year(match['year'])}"), text
    )


def say_date(text: str, order: str) -> str:
    """A date in numbers, in the order of SSML's `format`: mdy, dmy, ymd, md, dm, ym, my, …"""
    parts = re.findall("[0-9]+", text)
    if not order or len(parts) != len(order):
        return text
    given = dict(zip(order, parts, strict=True))
    words = []
    if "m" in given:
        if not 1 <= int(given["m"]) <= 12:
            return text
        words.append(MONTHS[int(given["m"]) - 1])
    if "d" in given:
        words.append(ordinal(str(int(given["d"]))))
    if "y" in given:
        words.append(any_year(_full_year(given["y"])))
    return " ".join(words)


def _year_first(match: re.Match[str]) -> str:
    date = _date(match[1], int(match[3]), int(match[4]))
    return as_words(match, date + (" at" if match[5] else "")) if date else match[0]


def _year_last(match: re.Match[str]) -> str:
    """Month first, as Americans write it, unless only the other order is a date; dots are used
    where the day comes first."""
    first, second, year = int(match[1]), int(match[3]), match[4]
    if len(year) == 2 and match[2] != "/":
        return match[0]
    if len(year) == 2 and year < "32":
        year = _full_year(year)  # "98" is said as it is written; "24" might be a day
    day_first = _day_first(year, second, first)
    if match[2] == ".":
        return as_words(match, day_first) if day_first else match[0]
    date = _date(year, first, second)
    date = date or (_date(year, second, first) if match[2] == "/" else day_first)
    return as_words(match, date) if date else match[0]


def _no_year(match: re.Match[str]) -> str:
    start = match.start(1) - match.start()
    return f"{match[0][:start]}{MONTHS[int(match[1]) - 1]} {ordinal(str(int(match[2])))}"


def _full_year(year: str) -> str:
    if len(year) != 2:
        return year
    return ("20" if year < "69" else "19") + year  # as strptime's %y


def _date(year: str, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"{MONTHS[month - 1]} {ordinal(str(day))}, {any_year(year)}"


def _day_first(year: str, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"the {ordinal(str(day))} of {MONTHS[month - 1]} {any_year(year)}"


def _month_day(match: re.Match[str]) -> str:
    day, last, year = match["day"], match["last"], match["year"] or match["year2"]
    if not 1 <= int(day) <= 31:
        return match[0]
    words = f"{_month(match['month'])} {ordinal(str(int(day)))}"
    words += f" to {ordinal(str(int(last)))}" if last else ""
    return as_words(match, words + (f", {any_year(year)}" if year else ""))


def _day_month(match: re.Match[str]) -> str:
    day, month, year = match["day"], match["month"], match["year"] or match["year2"]
    is_word = month in ("may", "mar", "dec", "sun", "jan") and not year and not match["the"]
    if not 1 <= int(day) <= 31 or (is_word and not re.search("[a-z] ?of", match[0])):
        return match[0]
    first = f"{ordinal(str(int(match['from'])))} to " if match["from"] else ""
    the = match["the"] or "the "
    words = f"{the}{first}{ordinal(str(int(day)))} of {_month(month)}"
    return as_words(match, words + (f" {any_year(year)}" if year else ""))


def _week(match: re.Match[str]) -> str:
    day = f"{_DAYS[int(match[3]) - 1]} of " if match[3] else ""
    week = cardinal(str(int(match[2])))
    return as_words(match, f"{day}week {week} of {any_year(match[1])}")


def _quarter(match: re.Match[str]) -> str:
    year = f" of {any_year(_full_year(match['year']))}" if match["year"] else ""
    quarter = ordinal(match["q"] or match["q2"])
    return as_words(match, f"{match['the'] or 'the '}{quarter} quarter{year}")


def _month(name: str) -> str:
    return MONTHS[_MONTH_NUMBERS[name.lower()] - 1]
