"""Mandarin's figures: 〇 to 九 by ten thousands, and the words beside them."""

from __future__ import annotations

import re
import unicodedata

from tts_provider.speech.mapped_text import MappedText

_DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_MYRIADS = ("", "万", "亿", "万亿")
_MOST_DIGITS = 16
_CURRENCIES = {"¥": "元", "$": "美元", "€": "欧元", "£": "英镑"}

_NUMBER = r"\d+(?:\.\d+)?"
# As wide as a Chinese character; a mark only within a number.
_WIDE = re.compile(r"[０-９]+(?:[．：／][０-９]+|，[０-９]{3}(?![０-９]))*|[％￥＄]")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MONEY = re.compile(rf"([¥$€£])\s?({_NUMBER})|({_NUMBER})\s?([¥$€£])")
_DATE = re.compile(r"(?<!\d)(\d{4})([/.-])(\d\d?)\2(\d\d?)(?!\d)")
_YEAR = re.compile(r"(?<!\d)(\d{4}|\d{2})(?=年)")
_TIME = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])")
_PERCENT = re.compile(rf"(-?{_NUMBER})\s?%")
_TWO = re.compile(r"(?<![\d.])2(?=[个位只本张件次天年点杯块元斤])")
_PLAIN = re.compile(rf"(?<![\d\w])-(?=\d)|{_NUMBER}")


def read_figures(text: MappedText) -> MappedText:
    text = text.sub(_WIDE, lambda match: unicodedata.normalize("NFKC", match[0]))
    text = text.sub(_GROUPED, "")
    text = text.sub(_DATE, lambda m: f"{_each(m[1])}年{_cardinal(m[3])}月{_cardinal(m[4])}日")
    text = text.sub(_YEAR, lambda match: _each(match[1]))
    text = text.sub(_TIME, _time)
    text = text.sub(_MONEY, lambda m: f"{_number(m[2] or m[3])}{_CURRENCIES[m[1] or m[4]]}")
    text = text.sub(
        _PERCENT, lambda m: f"{'负' * m[1].startswith('-')}百分之{_number(m[1].lstrip('-'))}"
    )
    text = text.sub(_TWO, "两")
    text = text.sub(_PLAIN, lambda m: "负" if m[0] == "-" else _number(m[0]))
    return text.replace("℃", "摄氏度").on_one_line()


def _time(match: re.Match[str]) -> str:
    hour = "两" if int(match[1]) == 2 else _cardinal(match[1])
    minute = int(match[2])
    if minute == 0:
        return f"{hour}点"
    return f"{hour}点{'零' * (minute < 10)}{_cardinal(str(minute))}分"


def _each(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _number(written: str) -> str:
    whole, _, decimals = written.partition(".")
    return _cardinal(whole) + (f"点{_each(decimals)}" if decimals else "")


def _cardinal(digits: str) -> str:
    if len(digits) > _MOST_DIGITS or (len(digits) > 2 and digits[0] == "0"):
        return _each(digits)
    number = int(digits)
    if number == 0:
        return _DIGITS[0]
    said, myriad, is_gap = "", 0, False
    while number:
        number, group = divmod(number, 10_000)
        if group:
            # A zero is said where thousands are missing before what was said.
            said = _group(group) + _MYRIADS[myriad] + ("零" if is_gap and said else "") + said
            is_gap = group < 1000
        elif said:
            is_gap = True
        myriad += 1
    # 十五, not 一十五, where it begins.
    return said[1:] if said.startswith("一十") else said


def _group(number: int) -> str:
    """Below ten thousand."""
    said, is_gap = "", False
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit:
            said += ("零" if is_gap else "") + _DIGITS[digit] + _PLACES[place]
            is_gap = False
        elif said:
            is_gap = True
    return said
