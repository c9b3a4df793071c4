"""Measures → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, number, plural
from tts_provider.speech.normalize.pattern import LETTER, any_of, as_words, number_not_after

# fmt: off
UNITS = {
    "%": "percent", "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter",
    "µm": "micrometer", "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot",
    "nmi": "nautical mile",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "µg": "microgram", "lb": "pound", "t": "ton",
    "tsp": "teaspoon", "tbsp": "tablespoon", "yr": "year", "yrs": "year", "wk": "week",
    "wks": "week",
    "lbs": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter",
    "mL": "milliliter", "cl": "centiliter", "dl": "deciliter", "gal": "gallon",
    "cc": "cubic centimeter",
    "ha": "hectare", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "s": "second", "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond",
    "ns": "nanosecond", "mph": "mile per hour", "kph": "kilometer per hour",
    "kmh": "kilometer per hour", "mpg": "mile per gallon", "fps": "frame per second",
    "rpm": "revolution per minute", "bpm": "beat per minute", "bps": "bit per second",
    "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte",
    "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "TiB": "tebibyte",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "W": "watt",
    "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour", "Wh": "watt hour",
    "MWh": "megawatt hour", "V": "volt", "mV": "millivolt", "kV": "kilovolt", "A": "amp",
    "mA": "milliamp",
    "mAh": "milliamp hour", "Nm": "newton meter", "kJ": "kilojoule", "J": "joule", "cal": "calorie",
    "kcal": "kilocalorie", "dB": "decibel", "px": "pixel", "pt": "point",
    "psi": "pound per square inch",
    "kPa": "kilopascal", "hPa": "hectopascal", "Pa": "pascal", "Ω": "ohm", "kΩ": "kilo-ohm",
    "MΩ": "megohm", "GΩ": "gigohm", "mΩ": "milliohm", "µF": "microfarad", "nF": "nanofarad",
    "pF": "picofarad", "µA": "microamp", "µV": "microvolt", "µL": "microliter",
    "°": "degree", "°C": "degree Celsius", "°F": "degree Fahrenheit", "° C": "degree Celsius",
    "° F": "degree Fahrenheit", "M": "million", "bn": "billion",
}
# fmt: on
# Whatever the case, where that is no other unit: KG, Km, MBPS.
_FOLDED = {
    unit.lower(): name
    for unit, name in UNITS.items()
    if len(unit) > 1 and unit not in ("Nm", "Wh", "Pa", "mA", "mV", "MW", "MWh", "GW")
} | {"kb": "kilobyte", "mb": "megabyte"}
_INVARIABLE = (
    "hertz",
    "kilohertz",
    "megahertz",
    "gigahertz",
    "percent",
    "million",
    "billion",
    "yen",
    "yuan",
    "won",
    "baht",
    "rand",
    "ringgit",
)
_IRREGULAR = {"foot": "feet", "penny": "pence", "inch": "inches"}
_PER = {
    "h": "hour", "hr": "hour", "hour": "hour", "s": "second", "sec": "second", "min": "minute",
    "d": "day", "day": "day", "wk": "week", "w": "week", "mo": "month", "mth": "month", "y": "year",
    "yr": "year", "a": "year", "ea": "each", "pp": "person", "kg": "kilogram", "l": "liter",
    "L": "liter", "lb": "pound", "oz": "ounce", "km": "kilometer", "m": "meter", "mi": "mile",
    "sq ft": "square foot", "ft": "foot", "gal": "gallon", "kWh": "kilowatt hour", "g": "gram",
    "mL": "milliliter", "ml": "milliliter", "dL": "deciliter", "GB": "gigabyte", "MB": "megabyte",
    "m²": "square meter", "m2": "square meter", "m^2": "square meter",
}  # fmt: skip
_LENGTHS = "mm|cm|km|m|ft|in|mi|yd"
UNIT = any_of(UNITS)
_ANY_CASE = rf"(?=[^\W\d_]|[%°])(?:{UNIT}|(?i:{any_of(_FOLDED)}))"
_SCALE = r"(?P<scale> (?:hundred|thousand|million|billion|trillion))"
_BARE = number_not_after("[A-Za-z]")
_UNSIGNED = number_not_after("[A-Za-z-]")
_UNQUOTED = number_not_after(r"[\w.,\"]")
_WHOLE = number_not_after(r"[\w.,\"/']")

_FEET_AND_INCHES = re.compile(
    r"([0-9](?<![\w.].)[0-9]{0,2})'(?:([0-9]{1,2})(?![0-9])(?:''|\")?| ([0-9]{1,2})(?:''|\"))"
)
_FEET_INCHES = re.compile(
    r"([0-9](?<![\w.,].)[0-9]{0,2}) ?(ft\.?|feet|foot) ?([0-9]{1,2})"
    r" ?(ins?\.?|inch(?:es)?)(?![^\W_])"
)
_FEET_BY = re.compile(
    r"([0-9](?<![\w.,].)[0-9]{0,3})'(?: ?[x×] ?| by )([0-9]{1,4})'"
    r"(?: ?[x×] ?([0-9]{1,4})')?(?![\w\"'])"
)
_INCHES = re.compile(rf"({_UNQUOTED})(?:\"|'')(?![\w'])")
_AREA = re.compile(
    rf"({_BARE})({_SCALE})? ?(?P<unit>{_LENGTHS})(?:\^(?P<a>[23])|(?P<b>[23]))(?![\w^])"
)
_ABBREVIATED_AREA = re.compile(
    rf"({_BARE})({_SCALE})? ?(?P<kind>sq|cu)\.? ?(?P<unit>{_LENGTHS})(?![\w^])"
)
# The full stop of "5 min. later" is the abbreviation's.
_MEASURE = re.compile(
    rf"({_BARE}){_SCALE}? ?(?P<unit>{_ANY_CASE})(?!{LETTER}|[0-9]|\.\w)"
    rf"(?:/(?P<per>{any_of(_PER)}|[A-Za-z]+)(?!\w)|\.(?= [a-z]))?"
)
_PER_UNIT = re.compile(
    rf"({_BARE})/(?P<per>kg|km|lb|hr|day|week|month|year|min|sec|mo|yr|wk)(?!\w)"
)
_SIZE_OF_A_THING = re.compile(
    rf"({_UNSIGNED})-(?P<unit>{_ANY_CASE})(?=[ -]{LETTER})(?<![0-9]-[A-Za-z])"
)
_INCHES_OF_A_THING = re.compile(rf"({_WHOLE})\"(?= {LETTER}[a-z])")


def read_compounds(text: MappedText) -> MappedText:
    """A 5-km run, a 12" pizza: one thing of that size."""
    if "-" in text:
        text = text.sub(
            _SIZE_OF_A_THING,
            lambda match: as_words(match, f"{_amount(match[1])} {unit_name(match['unit'])}"),
        )
    return text.sub(
        _INCHES_OF_A_THING,
        lambda match: (
            match[0]
            if match.string.count('"', 0, match.start()) % 2
            else as_words(match, f"{_amount(match[1])} inch")
        ),
    )


def read_units(text: MappedText) -> MappedText:
    text = text.sub(_FEET_INCHES, _feet_and_inches)
    text = text.sub(_INCHES, _inches)
    text = text.sub(_AREA, _area)
    text = text.sub(_ABBREVIATED_AREA, _area)
    text = text.sub(
        _PER_UNIT,
        lambda match: (
            as_words(match, f"{_amount(match[1])} per {_PER[match['per']]}")
            if match["per"] in _PER
            else match[0]
        ),
    )
    return text.sub(_MEASURE, _measure)


def per(match: re.Match[str]) -> tuple[str | Part, ...]:
    """What the group `per` says after a stroke: `/mo` is "per month"."""
    unit = match["per"]
    if not unit:
        return ()
    if unit == "ea":
        return " ", part(match, "per", "each")
    stroke = match.string.rindex("/", 0, match.start("per"))
    return " ", Part("per", stroke, stroke + 1), " ", part(match, "per", _PER.get(unit, unit))


def unit_name(unit: str) -> str:
    return UNITS.get(unit) or _FOLDED[unit.lower()]


def _height(match: re.Match[str]) -> Replacement:
    inches = match[2] or match[3]
    return as_words(match, f"{_amount(match[1])} foot {_amount(inches)}")


def _feet_and_inches(match: re.Match[str]) -> Replacement:
    feet = (
        part(match, 1, _amount(match[1])),
        " ",
        part(match, 2, "foot" if match[1] == "1" else "feet"),
    )
    inches = (
        part(match, 3, _amount(match[3])),
        " ",
        part(match, 4, "inch" if match[3] == "1" else "inches"),
    )
    return as_words(match, *feet, " ", *inches)


def read_feet(text: MappedText) -> MappedText:
    """`12' x 10'`, `6' 2"`."""
    text = text.sub(_FEET_AND_INCHES, _height)
    return text.sub(
        _FEET_BY,
        lambda match: as_words(
            match, " by ".join(counted(feet, "foot") for feet in match.groups() if feet)
        ),
    )


def _inches(match: re.Match[str]) -> Replacement:
    """`12"`, unless the mark closes a quotation."""
    if match.string.count('"', 0, match.start()) % 2 and match[0].endswith('"'):
        return match[0]
    return as_words(match, counted(match[1], "inch"))


def _area(match: re.Match[str]) -> Replacement:
    groups = match.groupdict()
    power = groups.get("a") or groups.get("b") or {"sq": "2", "cu": "3"}[groups.get("kind") or "sq"]
    adjective = "square" if power == "2" else "cubic"
    kind = match.span("kind") if groups.get("kind") else (match.end("unit"), match.end())
    return as_words(
        match,
        *counted_parts(
            part(match, 1),
            part(match, "unit", UNITS.get(match["unit"], "inch")),
            scale=part(match, "scale") if match["scale"] else None,
            adjective=Part(adjective, *kind),
        ),
    )


def _measure(match: re.Match[str]) -> Replacement:
    unit = match["unit"]
    if unit == "M" and " " in match[0]:
        return match[0]
    scale = part(match, "scale") if match["scale"] else None
    words = counted_parts(part(match, 1), part(match, "unit", unit_name(unit)), scale=scale)
    return as_words(match, *words, *per(match))


def counted(amount: str, unit: str) -> str:
    """So many of a unit: "one meter"."""
    return f"{_amount(amount)} {unit if amount == '1' else plural_unit(unit)}"


def counted_parts(
    amount: Part, unit: Part, *, scale: Part | None = None, adjective: Part | None = None
) -> tuple[str | Part, ...]:
    """The same, each word with what it stands for: digits, ` million`, `square`, and what the unit
    is called if there is one of it."""
    one = amount.text == "1" and scale is None
    return (
        amount._replace(text=_amount(amount.text)),
        *([scale] if scale else []),
        *((" ", adjective) if adjective else ()),
        " ",
        unit if one else unit._replace(text=plural_unit(unit.text)),
    )


def _amount(token: str) -> str:
    """A number that counts something is never an identifier, however long."""
    return cardinal(token.lstrip("0") or "0") if token.isdecimal() else number(token)


def plural_unit(unit: str) -> str:
    """Its noun in the plural: the last word before "per"."""
    noun, per_, rest = unit.partition(" per ")
    if noun.startswith("degree "):
        return noun.replace("degree", "degrees")
    head, space, noun = noun.rpartition(" ")
    many = noun if noun in _INVARIABLE else _IRREGULAR.get(noun) or plural(noun)
    return head + space + many + per_ + rest
