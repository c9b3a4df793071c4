"""Japanese figures: Open JTalk reads numbers, dates and counters itself, but not their signs."""

from __future__ import annotations

import re
import unicodedata

from tts_provider.speech.mapped_text import MappedText

_CURRENCIES = {"¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド"}
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MONEY = re.compile(r"([¥$€£])\s?(\d+(?:\.\d+)?)")
_DATE = re.compile(r"(?<!\d)(\d{4})([/.-])(\d\d?)\2(\d\d?)(?!\d)")
_TIME = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])")
_POINT = re.compile(r"(\d)\.(\d+)")
_DIGITS = str.maketrans("0123456789", "〇一二三四五六七八九")
# As wide as a kanji; a mark only within a number.
_WIDE = re.compile(r"[０-９]+(?:[．：／][０-９]+|，[０-９]{3}(?![０-９]))*|[％￥＄]")


def read_figures(text: MappedText) -> MappedText:
    text = text.sub(_WIDE, lambda match: unicodedata.normalize("NFKC", match[0]))
    text = text.sub(_GROUPED, "")
    text = text.sub(_MONEY, lambda match: match[2] + _CURRENCIES[match[1]])
    text = text.sub(_DATE, lambda m: f"{m[1]}年{int(m[3])}月{int(m[4])}日")
    text = text.sub(_TIME, lambda m: f"{int(m[1])}時" + (f"{int(m[2])}分" if int(m[2]) else ""))
    text = text.sub(_POINT, lambda match: f"{match[1]}点{match[2].translate(_DIGITS)}")
    return text.replace("%", "パーセント").replace("℃", "度").on_one_line()
