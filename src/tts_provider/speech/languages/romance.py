"""Spanish, French, Italian and Portuguese figures: they write them alike, and name them alike."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Literal

from num2words import num2words  # type: ignore[import-untyped]

from tts_provider.speech.languages.tables import Currency, Table
from tts_provider.speech.mapped_text import MappedText

# Longer numbers are not said as numbers: cards, telephones.
_MOST_DIGITS = 15

# 1.234.567,89 and 1 234 567,89; 3,5 and 3.5. A point before three digits parts thousands.
_NUMBER = r"\d{1,3}(?:[.\u00a0\u202f]\d{3})+(?:,\d+)?|\d{1,3}(?: \d{3})+(?:,\d+)?|\d+(?:[.,]\d+)?"
_MONEY_SIGN = r"R\$|[€$£¥]"
_BEFORE = r"(?<![\w.,])"
_AFTER = r"(?![\w])(?![.,]\d)"

_MONEY = re.compile(
    rf"{_BEFORE}(?:(?P<before>{_MONEY_SIGN})\s?(?P<first>{_NUMBER})"
    rf"|(?P<second>{_NUMBER})\s?(?P<behind>{_MONEY_SIGN})){_AFTER}"
)
_DATE = re.compile(rf"{_BEFORE}(\d\d?)([./-])(\d\d?)\2(\d{{4}}){_AFTER}")
_TIME = re.compile(rf"{_BEFORE}([01]?\d|2[0-3])(?::|\s?h\s?)([0-5]\d){_AFTER}")
_HOUR = re.compile(rf"{_BEFORE}([01]?\d|2[0-3])\s?h{_AFTER}")
_PERCENT = re.compile(rf"(-)?{_BEFORE}({_NUMBER})\s?%")
_ORDINAL = re.compile(rf"{_BEFORE}(\d{{1,4}})(?:\.?([ºª])|(er|re|e|ème)(?!\w))")
_PLAIN = re.compile(rf"(?:(?<=\s)|^)[-−](?=\d)|(?<!\d)(?:{_NUMBER})(?!\d)")
_SIGN = re.compile(r"(?<=[\w\s])\s?([&+=@])\s?(?=[\w\s])")


def read_figures(text: MappedText, table: Table) -> MappedText:
    if not any(character.isdigit() or character in "%&+=@€$£" for character in text.string):
        return text
    steps: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Table], str]], ...] = (
        (_MONEY, _money),
        (_DATE, _date),
        (_TIME, _time),
        (_HOUR, _full_hour),
        (_PERCENT, _percent),
        (_ORDINAL, _ordinal),
        (_PLAIN, _plain),
        (_SIGN, _sign),
    )
    for pattern, say in steps:
        text = text.sub(pattern, functools.partial(_said, say, table))
    return text.on_one_line()


def _said(say: Callable[[re.Match[str], Table], str], table: Table, match: re.Match[str]) -> str:
    """Apart from a letter that it touches: 5kg is two words."""
    said = say(match, table)
    if said == match[0]:
        return said
    before, behind = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return f"{' ' * before.isalnum()}{said}{' ' * behind.isalnum()}"


def _parts(written: str) -> tuple[str, str]:
    """Digits before and behind the decimal sign."""
    whole = re.sub(r"[\s\u00a0\u202f]", "", written)
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", whole):
        whole = whole.replace(".", "")
    number, _, decimals = whole.replace(",", ".").partition(".")
    return number, decimals


def _cardinal(digits: str, table: Table) -> str:
    if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_cardinal(digit, table) for digit in digits)
    said: str = num2words(int(digits), lang=table.num2words)
    return said


def _number(written: str, table: Table) -> str:
    number, decimals = _parts(written)
    said = _cardinal(number, table)
    if not decimals:
        return said
    zeros = len(decimals) - len(decimals.lstrip("0"))
    rest = decimals[zeros:]
    digits = [_cardinal("0", table)] * zeros
    if len(rest) > 2:
        digits += [_cardinal(digit, table) for digit in rest]
    elif rest:
        digits.append(_cardinal(rest, table))
    return " ".join([said, table.point, *digits])


def _before_noun(said: str, gender: Literal["m", "f"], table: Table) -> str:
    head, _, last = said.rpartition(" ")
    stem, dash, end = last.rpartition("-")
    for ending, forms in table.ones.items():
        if end == ending:
            return f"{head} {stem}{dash}{forms[gender == 'f']}".strip()
    return said


def _money(match: re.Match[str], table: Table) -> str:
    sign, written = match["before"] or match["behind"], match["first"] or match["second"]
    currency: Currency | None = table.currencies.get(sign) or table.currencies.get(sign[-1])
    if currency is None:
        return match[0]
    number, decimals = _parts(written)
    many = f"{_NAME_OF_MILLIONS[table.num2words]} " if _is_millions(number) else ""
    name = currency.one if number == "1" else currency.many
    whole = f"{_before_noun(_cardinal(number, table), currency.gender, table)} {many}{name}"
    if len(decimals) == 2 and int(decimals):
        return table.cents.format(whole=whole, cents=_cardinal(str(int(decimals)), table))
    if decimals and int(decimals):
        return f"{_number(written, table)} {currency.many}"
    return whole


# In these languages a word follows "million": un millón de euros.
_NAME_OF_MILLIONS = {"es": "de", "fr": "d'", "it": "di", "pt_BR": "de"}


def _is_millions(digits: str) -> bool:
    return len(digits) > 6 and digits.endswith("000000")


def _date(match: re.Match[str], table: Table) -> str:
    day, month = int(match[1]), int(match[3])
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return match[0]
    said = table.first if day == 1 else _cardinal(str(day), table)
    return table.date.format(
        day=said, month=table.months[month - 1], year=_cardinal(match[4], table)
    )


def _hour_words(hour: str, table: Table) -> str:
    return _before_noun(_cardinal(str(int(hour)), table), "f", table)


def _singular(said: str, hour: str) -> str:
    """One hour is no hours."""
    if int(hour) > 1:
        return said
    return said.replace(" heures", " heure").replace(" horas", " hora")


def _time(match: re.Match[str], table: Table) -> str:
    hour, minute = match[1], int(match[2])
    if minute == 0:
        return _full_hour(match, table)
    said = table.time.format(hour=_hour_words(hour, table), minute=_cardinal(str(minute), table))
    return _singular(said, hour)


def _full_hour(match: re.Match[str], table: Table) -> str:
    return _singular(table.full_hour.format(hour=_hour_words(match[1], table)), match[1])


def _percent(match: re.Match[str], table: Table) -> str:
    minus = f"{table.minus} " if match[1] else ""
    return f"{minus}{_number(match[2], table)} {table.percent}"


def _ordinal(match: re.Match[str], table: Table) -> str:
    is_french = table.num2words == "fr"
    if (match[3] is not None) != is_french:
        return match[0]
    said: str = num2words(int(match[1]), lang=table.num2words, to="ordinal")
    if match[2] == "ª" and said.endswith("o"):
        return " ".join(f"{word[:-1]}a" if word.endswith("o") else word for word in said.split())
    return "première" if match[3] == "re" and match[1] == "1" else said


def _plain(match: re.Match[str], table: Table) -> str:
    if match[0] in "-−":
        return f"{table.minus} "
    return _number(match[0], table)


def _sign(match: re.Match[str], table: Table) -> str:
    return f" {table.signs[match[1]]} "
