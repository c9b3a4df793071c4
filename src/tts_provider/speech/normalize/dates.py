"""Dates, weeks and quarters → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
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
_DAY = rf"(?P<ordinal>(?P<day>[0-9]{{1,2}})(?i:st|nd|rd|th)?){_ENDS}"
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
    r"(?P<the>\b[Tt]he )?(?<![\w.-])(?P<quarter>(?P<q>[1-4])Q|Q(?P<q2>[1-4]))"
    r"(?:(?: of)?[ -]?'?(?P<year>20[0-9]{2}|[0-9]{2}))?(?![\w-]|[.,][0-9])"
)
# Without a cue, or a day that is no denominator, it is a fraction.
_NO_YEAR = re.compile(
    r"(?i:\b(?:due(?: on| by)?"
    r"|(?:on|by|until|before|after|since)(?= [0-9]+/(?:1[3-9]|[23][0-9]))) )"
    r"(1[0-2]|0?[1-9])/(3[01]|[12][0-9]|0?[1-9])(?![\w/]|[.,-][0-9])"
)
_DATED = re.compile(
    r"(?:(?P<cue>\b(?:[Oo]n|[Bb]y|[Uu]ntil|[Bb]efore|[Aa]fter|[Ss]ince) )"
    r"(?=[0-9]+/[0-9]+(?:,? at|,|) [0-9]{1,2}(?::[0-9]{2}| ?[AaPp]\.?[Mm]))"
    r"|(?P<day>\b(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tue|Wed|Thu|Fri|Sat|Sun)\.?,? "
    r"(?:the )?))"
    r"(?P<m>1[0-2]|0?[1-9])/(?P<d>3[01]|[12][0-9]|0?[1-9])(?![\w/]|[.,-][0-9])"
)
_EXPIRY = re.compile(
    r"(?P<cue>\b(?i:exp(?:iry|ires?|iration|\.)?(?: date)?|valid (?:thru|through|until|to)"
    r"|good (?:thru|until))"
    r":? (?:on |in )?)(?P<m>1[0-2]|0?[1-9])/(?P<y>20[0-9]{2}|[0-9]{2})(?![\w/]|[.,-][0-9])"
)
_MAY_BE_MONTH = re.compile(f"[ADFJMNOSadfjmnos](?i:{any_of({month[1:3] for month in MONTHS})})")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def read_dates(text: MappedText) -> MappedText:
    text = text.sub(_WEEK, _week)
    if "Q" in text:
        text = text.sub(_QUARTER, _quarter)
    text = text.sub(_YEAR_FIRST, _year_first)
    text = text.sub(_YEAR_LAST, _year_last)
    if "/" in text:
        text = text.sub(_EXPIRY, _expiry)
        text = text.sub(_DATED, _dated)
        text = text.sub(_NO_YEAR, _no_year)
    if not text.search(_MAY_BE_MONTH):
        return text
    text = text.sub(_DAY_MONTH, _day_month)
    text = text.sub(_MONTH_DAY, _month_day)
    return text.sub(
        _MONTH_YEAR,
        lambda match: as_words(match, _month_of(match), " ", _year_of(match)),
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


def _year_first(match: re.Match[str]) -> Replacement:
    date = _date(match[1], int(match[3]), int(match[4]))
    return as_words(match, date + (" at" if match[5] else "")) if date else match[0]


def _year_last(match: re.Match[str]) -> Replacement:
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


def _no_year(match: re.Match[str]) -> Replacement:
    cue = Part(match.string[match.start() : match.start(1)], match.start(), match.start(1))
    return cue, f"{MONTHS[int(match[1]) - 1]} {ordinal(str(int(match[2])))}"


def _dated(match: re.Match[str]) -> Replacement:
    cue = part(match, "cue" if match["cue"] else "day")
    return cue, f"{MONTHS[int(match['m']) - 1]} {ordinal(str(int(match['d'])))}"


def _expiry(match: re.Match[str]) -> Replacement:
    """`Exp 04/27`: a month of a year."""
    year = _full_year(match["y"])
    return part(match, "cue"), f"{MONTHS[int(match['m']) - 1]} {any_year(year)}"


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


def _month_day(match: re.Match[str]) -> Replacement:
    if not 1 <= int(match["day"]) <= 31:
        return match[0]
    words: list[str | Part] = [_month_of(match), " ", part(match, "ordinal", _day(match["day"]))]
    if match["last"]:
        words += [" to ", part(match, "last", _day(match["last"]))]
    if match["year"] or match["year2"]:
        words += [", ", _year_of(match)]
    return as_words(match, *words)


def _day_month(match: re.Match[str]) -> Replacement:
    day, month, year = match["day"], match["month"], match["year"] or match["year2"]
    is_word = month in ("may", "mar", "dec", "sun", "jan") and not year and not match["the"]
    if not 1 <= int(day) <= 31 or (is_word and not re.search("[a-z] ?of", match[0])):
        return match[0]
    words: list[str | Part] = [part(match, "the") if match["the"] else "the "]
    if match["from"]:
        words += [part(match, "from", _day(match["from"])), " to "]
    words += [part(match, "ordinal", _day(day)), " of ", _month_of(match)]
    return as_words(match, *words, *((" ", _year_of(match)) if year else ()))


def _week(match: re.Match[str]) -> Replacement:
    day = f"{_DAYS[int(match[3]) - 1]} of " if match[3] else ""
    week = cardinal(str(int(match[2])))
    return as_words(match, f"{day}week {week} of {any_year(match[1])}")


def _quarter(match: re.Match[str]) -> Replacement:
    the = part(match, "the") if match["the"] else "the "
    quarter = part(match, "quarter", f"{ordinal(match['q'] or match['q2'])} quarter")
    if not match["year"]:
        return as_words(match, the, quarter)
    year = part(match, "year", any_year(_full_year(match["year"])))
    return as_words(match, the, quarter, " of ", year)


def _month_of(match: re.Match[str]) -> Part:
    return part(match, "month", MONTHS[_MONTH_NUMBERS[match["month"].lower()] - 1])


def _day(digits: str) -> str:
    return ordinal(str(int(digits)))


def _year_of(match: re.Match[str]) -> Part:
    group = "year" if match["year"] else "year2"
    return part(match, group, any_year(match[group]))
