"""Numbers → words: cardinals, ordinals, decimals, versions, and the digits no other pass took."""

from __future__ import annotations

import re
from functools import lru_cache

from num2words import num2words  # type: ignore[import-untyped]

from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize.pattern import LETTER, NUMBER, as_words

_LONGEST_CARDINAL = 36
"""Digits of the longest number said as one: beyond undecillions nobody follows the words."""

_LONGEST_PLAIN_CARDINAL = 6
"""Digits without separators beyond which a number is an identifier, unless it is round."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_ORDINAL = re.compile(rf"({NUMBER})(?P<suffix>st|nd|rd|th)(?!{LETTER})", re.IGNORECASE)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
# 12,34,567 is twelve lakh thirty-four thousand …
_INDIAN = re.compile(r"[0-9]{1,2}(?:,[0-9]{2}){1,5},[0-9]{3}(?:\.[0-9]+)?")
_APOSTROPHE_GROUPS = re.compile(r"[0-9](?<![\w.,'].)[0-9]{0,2}(?:'[0-9]{3})+(?![\w'])")
_SPACE_GROUPS = re.compile(
    r"[1-9](?<![\w.,].)(?<![0-9] .)[0-9]{0,2}(?:(?: [0-9]{3}){2,9}| 000)(?![\w-]| [0-9])"
)
_NARROW_GROUPS = re.compile("\u202f(?<=[0-9].)(?=[0-9]{3}(?![0-9]))")
_DECIMAL_COMMA = re.compile(
    r"(?<![\w.,])([0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),([0-9]{1,2})(?= ?€)"
    r"|(?<=€)( ?)([0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),([0-9]{1,2})(?![0-9,])"
)
_SCIENTIFIC = re.compile(r"([0-9](?<![\w.].)[0-9]*(?:\.[0-9]+)?)[eE]([-+]?)([0-9]{1,3})(?![\w.]\w)")
_RATIO = re.compile(r":(?<=[0-9]:)(?=[0-9])")
_PLAIN_NUMBER = re.compile(NUMBER)


def join_groups(text: MappedText) -> MappedText:
    """1 234 567, 1'234'567 and 1.234,50 € → as English writes them; 1.5e-3 → 1.5 × 10^-3."""
    text = text.sub(_NARROW_GROUPS, "").replace("\u202f", " ")
    text = text.sub(_APOSTROPHE_GROUPS, lambda match: match[0].replace("'", ","))
    text = text.sub(_SPACE_GROUPS, lambda match: match[0].replace(" ", ","))
    if "€" in text:
        text = text.sub(_DECIMAL_COMMA, _decimal_point)
    return text.sub(_SCIENTIFIC, _scientific)


def _decimal_point(match: re.Match[str]) -> str:
    whole, decimals = match[1] or match[4], match[2] or match[5]
    return f"{match[3] or ''}{whole.replace('.', ',')}.{decimals}"


def _scientific(match: re.Match[str]) -> str:
    return f"{match[1]} × 10^{match[2].replace('+', '')}{match[3]}"


def read_ordinals(text: MappedText) -> MappedText:
    return text.sub(_ORDINAL, lambda match: as_words(match, _ordinal_token(match[1], match[2])))


def _ordinal_token(token: str, suffix: str) -> str:
    digits = token.replace(",", "") if _GROUPED.fullmatch(token) else token
    if digits.isdecimal() and suffix.lower() == _suffix(digits):
        return ordinal(digits)
    if digits.isdecimal() and len(digits) > 2:  # 111st counts nothing
        return f"{spelled(digits)} {suffix}"
    return f"{number(token)} {suffix}"


def _suffix(digits: str) -> str:
    if digits[-2:-1] == "1":
        return "th"
    return {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")


def read_numbers(text: MappedText) -> MappedText:
    text = text.sub(_RATIO, " to ")
    return text.sub(_PLAIN_NUMBER, lambda match: as_words(match, number(match[0])))


@lru_cache(maxsize=4096)
def cardinal(digits: str) -> str:
    """American style: no "and", no commas. Leading zeros and giants go digit by digit."""
    if len(digits) > _LONGEST_CARDINAL or (digits[0] == "0" and len(digits) > 1):
        return spelled(digits)
    return str(num2words(int(digits))).replace(",", "").replace(" and ", " ")


@lru_cache(maxsize=4096)
def ordinal(digits: str) -> str:
    if len(digits) > _LONGEST_CARDINAL:
        return f"{spelled(digits)} th"
    return str(num2words(int(digits), to="ordinal")).replace(",", "").replace(" and ", " ")


def spelled(digits: str) -> str:
    return " ".join(_DIGITS[int(digit)] for digit in digits)


def integer(digits: str) -> str:
    """A number without separators: 2500000 is an amount, 5551234 is somebody's telephone."""
    if len(digits) > _LONGEST_PLAIN_CARDINAL and not digits.endswith("000"):
        return spelled(digits)
    return cardinal(digits)


@lru_cache(maxsize=4096)
def number(token: str) -> str:
    """Digits with dots and commas between them: amount, decimal, version, address or list."""
    if re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?", token):
        whole, _, decimals = token.replace(",", "").partition(".")
        return cardinal(whole) + (f" point {spelled(decimals)}" if decimals else "")
    if re.fullmatch(_INDIAN, token):
        return _lakhs(token)
    return ", ".join(_dotted(piece) for piece in token.split(","))


def _lakhs(token: str) -> str:
    whole, _, decimals = token.replace(",", "").partition(".")
    left, words = int(whole), list[str]()
    for size, name in ((10_000_000, "crore"), (100_000, "lakh"), (1, "")):
        count, left = divmod(left, size)
        if count:
            words.append(f"{cardinal(str(count))} {name}".strip())
    return " ".join(words or ["zero"]) + (f" point {spelled(decimals)}" if decimals else "")


def _dotted(token: str) -> str:
    parts = token.split(".")
    if len(parts) == 2 and not parts[0]:
        return f"point {spelled(parts[1])}"
    if len(parts) == 2:
        return f"{integer(parts[0])} point {spelled(parts[1])}"
    return " point ".join(integer(part) for part in parts)  # a version


def two_digits(digits: str) -> str:
    """Two digits as they are said after an hour or a century."""
    return f"oh {cardinal(digits[1])}" if digits[0] == "0" else cardinal(digits)


def plural(words: str) -> str:
    if words.endswith("y") and words[-2:-1] not in "aeiou":
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("x", "ch")) else "s")
