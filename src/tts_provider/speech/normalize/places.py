"""Street addresses: house numbers in pairs, streets, directions, states and ZIP codes → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, spelled, two_digits
from tts_provider.speech.normalize.pattern import any_of, as_words, full_stop

# fmt: off
_STREETS = {
    "st": "Street", "ave": "Avenue", "av": "Avenue", "blvd": "Boulevard", "rd": "Road",
    "dr": "Drive",
    "ct": "Court", "ln": "Lane", "pl": "Place", "hwy": "Highway", "expy": "Expressway",
    "pkwy": "Parkway", "ter": "Terrace", "sq": "Square", "cir": "Circle", "aly": "Alley",
    "fwy": "Freeway", "tpke": "Turnpike", "pk": "Park", "plz": "Plaza", "xing": "Crossing",
}
_DIRECTIONS = {
    "N": "North", "S": "South", "E": "East", "W": "West", "NE": "Northeast", "NW": "Northwest",
    "SE": "Southeast", "SW": "Southwest",
}
_STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California",
    "CO": "Colorado", "CT": "Connecticut", "DE": "Delaware", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas",
    "KY": "Kentucky", "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts",
    "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi", "MO": "Missouri", "MT": "Montana",
    "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire", "NJ": "New Jersey",
    "NM": "New Mexico", "NY": "New York", "NC": "North Carolina", "ND": "North Dakota",
    "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island",
    "SC": "South Carolina", "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah",
    "VT": "Vermont", "VA": "Virginia", "WA": "Washington", "WV": "West Virginia",
    "WI": "Wisconsin", "WY": "Wyoming", "DC": "D C",
}
# fmt: on
_WORDS_TOO = frozenset(("HI", "ID", "IN", "LA", "MA", "ME", "OH", "OK", "OR", "PA", "DE", "AL"))
"""States whose letters are words or names: only before a ZIP code."""

_NAME = r"(?:[A-Z][\w'’]*|[0-9]{1,3}(?:st|nd|rd|th)|de|la|of)"
_HOUSE = re.compile(
    rf"(?P<number>[0-9](?<![\w.,$€£#-].)[0-9]{{0,4}})(?P<letter>[A-Z])? "
    rf"(?:(?P<direction>{any_of(_DIRECTIONS)})\.? )?"
    rf"(?P<name>{_NAME}(?: {_NAME}){{0,3}}) (?P<street>(?i:{any_of(_STREETS)}))(?P<dot>\.)?"
    rf"(?: (?P<after>{any_of(_DIRECTIONS)})\b)?(?![^\W_]|['’])"
)
_STATE = re.compile(
    rf"(?<=, )({any_of(_STATES)})"
    r"(?P<zip>,? (?P<five>[0-9]{5})(?:-(?P<four>[0-9]{4}))?(?![\w-]))?"
    r"(?![^\W_]|['’][A-Za-z]| two\b)"  # CO2
)


def read_places(text: MappedText) -> MappedText:
    return text.sub(_HOUSE, _house).sub(_STATE, _state)


def _house(match: re.Match[str]) -> Replacement:
    words: list[str | Part] = [part(match, "number", _house_number(match["number"])), " "]
    if match["letter"]:
        words += [part(match, "letter"), " "]
    if match["direction"]:
        words += [part(match, "direction", _DIRECTIONS[match["direction"]]), " "]
    words += [part(match, "name"), " ", part(match, "street", _STREETS[match["street"].lower()])]
    if match["after"]:
        words += [" ", part(match, "after", _DIRECTIONS[match["after"]])]
    elif match["dot"]:
        words.append(full_stop(match))
    return tuple(words)


def _house_number(digits: str) -> str:
    if len(digits) == 3 and digits[1:] != "00":
        return (
            spelled(digits) if digits[1] == "0" else f"{cardinal(digits[0])} {cardinal(digits[1:])}"
        )
    if len(digits) == 4 and digits[2:] != "00" and digits[0] != "0" and digits[1] != "0":
        return f"{cardinal(digits[:2])} {two_digits(digits[2:])}"
    if len(digits) == 5:
        return spelled(digits)
    if len(digits) == 4 and digits[1] != "0" and digits[2:] == "00":
        return f"{cardinal(digits[:2])} hundred"
    return cardinal(digits)


def _state(match: re.Match[str]) -> Replacement:
    letters = match[1]
    if not match["zip"]:
        return as_words(match, match[0] if letters in _WORDS_TOO else _STATES[letters])
    words: list[str | Part] = [
        part(match, 1, _STATES[letters]),
        ", ",
        part(match, "five", spelled(match["five"])),
    ]
    if match["four"]:
        words += [", ", part(match, "four", spelled(match["four"]))]
    return as_words(match, *words)
