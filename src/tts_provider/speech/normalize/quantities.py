"""Money, measures and fractions → words."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.numbers import cardinal, integer, number, ordinal, plural
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, NUMBER, any_of, as_words

# --- Money and units -----------------------------------------------------------------------------

# fmt: off
_UNITS = {
    "%": "percent", "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter",
    "µm": "micrometer", "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "µg": "microgram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter",
    "mL": "milliliter", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "s": "second", "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond",
    "ns": "nanosecond", "mph": "mile per hour", "kph": "kilometer per hour",
    "kmh": "kilometer per hour", "mpg": "mile per gallon", "fps": "frame per second",
    "rpm": "revolution per minute", "bps": "bit per second", "kbps": "kilobit per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "kB": "kilobyte", "KB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte",
    "MiB": "mebibyte", "GiB": "gibibyte", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour",
    "V": "volt", "mA": "milliamp", "mAh": "milliamp hour", "kJ": "kilojoule", "kcal": "kilocalorie",
    "dB": "decibel", "px": "pixel", "pt": "point", "°": "degree", "°C": "degree Celsius",
    "°F": "degree Fahrenheit", "° C": "degree Celsius", "° F": "degree Fahrenheit", "¢": "cent",
    "M": "million", "bn": "billion", "USD": "US dollar", "EUR": "euro", "GBP": "pound",
}
# fmt: on
_INVARIABLE = ("hertz", "percent", "million", "billion", "yen")
_IRREGULAR = {
    "foot": "feet",
    "penny": "pence",
    "US dollar": "US dollars",
    "kilowatt hour": "kilowatt hours",
    "milliamp hour": "milliamp hours",
}
_CURRENCIES = {
    "$": ("dollar", "cent"),
    "£": ("pound", "penny"),
    "€": ("euro", "cent"),
    "¥": ("yen", None),
    "₹": ("rupee", "paisa"),
}
# fmt: off
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million",
    "b": "billion", "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion",
}
# fmt: on
UNIT = any_of(_UNITS)
_SCALE = rf"(?:(?: ?(hundred|thousand|million|billion|trillion)|({any_of(_SCALES)}))(?!{LETTER}))?"
_PRICE = re.compile(rf"({CURRENCY}) ?({NUMBER}){_SCALE}(/(?={LETTER}))?")
_PRICE_SIGN_LAST = re.compile(rf"({NUMBER}) ?({CURRENCY})(?!-?[0-9])")
# The full stop of "5 min. later" is the abbreviation's.
_MEASURE = re.compile(rf"({NUMBER}) ?({UNIT})(?!{LETTER})(?:/([A-Za-z]+)|\.(?= [a-z]))?")
_HEIGHT = re.compile(r"(?<![0-9])([0-9])'([0-9]{1,2})(?![0-9])\"?")


def read_money(text: str) -> str:
    text = _PRICE.sub(_price, text)
    return _PRICE_SIGN_LAST.sub(
        lambda match: as_words(match, counted(match[1], _CURRENCIES[match[2]][0])), text
    )


def _price(match: re.Match[str]) -> str:
    sign, amount, scale_word, scale_letter, per = match.groups()
    coin, small_coin = _CURRENCIES[sign]
    scale = scale_word or (scale_letter and _SCALES[scale_letter])
    if scale:
        words = f"{_amount(amount)} {scale} {_plural_unit(coin)}"
    elif small_coin and re.fullmatch(r"[0-9,]+\.[0-9]{2}", amount):
        words = _coins(amount, coin, small_coin)
    else:
        words = counted(amount, coin)
    return as_words(match, f"{words} per" if per else words)


def _coins(amount: str, coin: str, small_coin: str) -> str:
    whole, cents = amount[:-3], str(int(amount[-2:]))
    if cents == "0":
        return counted(whole, coin)
    if not whole.strip("0"):
        return counted(cents, small_coin)
    return f"{counted(whole, coin)} and {counted(cents, small_coin)}"


def read_units(text: str) -> str:
    text = _HEIGHT.sub(
        lambda match: as_words(match, f"{cardinal(match[1])} foot {cardinal(match[2])}"), text
    )
    return _MEASURE.sub(_measure, text)


def _measure(match: re.Match[str]) -> str:
    amount, unit, per = match.groups()
    words = counted(amount, _UNITS[unit])
    return as_words(match, f"{words} per {_UNITS.get(per, per)}" if per else words)


def counted(amount: str, unit: str) -> str:
    return f"{_amount(amount)} {unit if amount == '1' else _plural_unit(unit)}"


def _amount(token: str) -> str:
    """A number that counts something is never an identifier, however long."""
    return cardinal(token.lstrip("0") or "0") if token.isdecimal() else number(token)


def _plural_unit(unit: str) -> str:
    if unit in _IRREGULAR:
        return _IRREGULAR[unit]
    noun, space, rest = unit.partition(" ")
    return (noun if noun.endswith(_INVARIABLE) else plural(noun)) + space + rest


# --- Fractions -----------------------------------------------------------------------------------

_MIXED_NUMBER = re.compile(
    r"(?<![0-9])(?<![0-9][/.,])([0-9]{1,3}) (?=[0-9]{1,2}/[0-9]{1,2}(?![0-9/]))"
)
_FRACTION = re.compile(rf"(?<![0-9])(?<![0-9][/.,])[0-9]+(?:/[0-9]+)+(?: ?({UNIT})(?!{LETTER}))?")
_FIXED_FRACTIONS = {"24/7": "twenty-four seven", "9/11": "nine eleven"}


def read_fractions(text: str) -> str:
    return _FRACTION.sub(_fraction, _MIXED_NUMBER.sub(r"\1 and ", text))


def _fraction(match: re.Match[str]) -> str:
    digits = match[0].removesuffix(match[1] or "").rstrip()
    parts = digits.split("/")
    if digits in _FIXED_FRACTIONS:
        words = _FIXED_FRACTIONS[digits]
    elif len(parts) > 2:
        words = " slash ".join(integer(part) for part in parts)
    elif parts[0] == parts[1]:
        words = f"{integer(parts[0])} {integer(parts[1])}"
    elif max(map(len, parts)) > 2 or int(parts[1]) < 2:
        words = f"{integer(parts[0])} over {integer(parts[1])}"
    else:
        words = _parts_of_a_whole(parts[0], str(int(parts[1])))
    if match[1]:
        mixed = re.search(r"[0-9] and $", match.string[max(0, match.start() - 6) : match.start()])
        unit = _UNITS[match[1]]
        words += f" {_plural_unit(unit) if mixed else unit}"
    return as_words(match, words)


def _parts_of_a_whole(numerator: str, denominator: str) -> str:
    part = {"2": "half", "4": "quarter"}.get(denominator) or ordinal(denominator)
    if numerator == "1":
        return f"one {part}"
    return f"{integer(numerator)} {'halves' if part == 'half' else plural(part)}"
