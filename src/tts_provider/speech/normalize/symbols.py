"""Signs and symbols → words: minus, about, ranges, powers, and what no other pass took."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, spelled
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, any_of, as_words
from tts_provider.speech.normalize.telephones import telephone
from tts_provider.speech.normalize.units import UNIT
from tts_provider.speech.normalize.years import year_in_words

# --- Signs and ranges ----------------------------------------------------------------------------

_CHAIN = re.compile(r"[0-9](?<![\w-].)(?<![0-9][.,].)[0-9]*(?:-[0-9]+)+(?![\w]|-\w)")
_HOURS = re.compile(r"[a-z]{2}day,? \Z")  # of opening: Saturday 10-4
_UNIT_RANGE = re.compile(
    rf"(?<![\w-])(?<![0-9][.,])({CURRENCY}?)([0-9]+(?:[.,][0-9]+)*)( ?(?:{UNIT}|[AaPp]\.?[Mm]\.?))?"
    rf"-(?={CURRENCY}?([0-9]+(?:[.,][0-9]+)*)( ?(?:{UNIT}|[AaPp]\.?[Mm])(?!{LETTER})|x?(?![\w-])))"
)
_MINUS = re.compile(rf"-(?<!\w.)(?<![AaPp]\.[Mm]\.-)(?={CURRENCY}?[0-9])")
_DIGIT_HYPHEN = re.compile(rf"(?<=[0-9])-|-(?={CURRENCY}?[0-9])")
_ABOUT = re.compile(rf"~(?=-?{CURRENCY}?[0-9])")
_BY = re.compile(r"(?<=[0-9]) ?x ?(?=[0-9])")
_FOLD = re.compile(rf"(?<=[0-9])x(?= {LETTER})(?! (?:minus|plus|equals)\b)")


def read_signs(text: MappedText) -> MappedText:
    text = text.sub(_ABOUT, lambda match: as_words(match, "about"))
    return text.sub(_MINUS, lambda match: as_words(match, "minus"))


def read_ranges(text: MappedText) -> MappedText:
    """ "5-10" is a range; "747-400", "978-0" and "i7-12700K" are names."""
    if "-" in text:
        text = text.sub(_CHAIN, _chain)
        text = text.sub(_UNIT_RANGE, _unit_range)
        text = text.sub(_DIGIT_HYPHEN, " ")
    if "x" not in text:
        return text
    return text.sub(_BY, " by ").sub(_FOLD, " times")


def _chain(match: re.Match[str]) -> Replacement:
    pieces = match[0].split("-")
    if len(pieces) > 2:
        is_score = all(len(piece) < 3 and str(int(piece)) == piece for piece in pieces)
        read = cardinal if is_score else spelled
        return as_words(match, ", ".join(map(read, pieces)))
    first, last = pieces
    before = match.string[max(0, match.start() - 1) : match.start()]
    after = match.string[match.end() : match.end() + 5]
    if _HOURS.search(match.string, max(0, match.start() - 10), match.start()) and (
        max(int(first), int(last)) <= 12
    ):
        return _ends(match, first, " to ", last)
    bare = (not before or before not in "$£€¥₹.,:") and not re.match(
        rf"[.,:]?[0-9]| ?(?:{UNIT})(?!{LETTER})", after
    )
    if bare and "1100" <= first <= "2099" and len(first) == 4:
        if len(last) == 4 and first < last <= "2099":
            return as_words(match, *_ends(match, year_in_words(first), " to ", year_in_words(last)))
        if len(last) == 2 and first[2:] < last:
            return as_words(match, *_ends(match, year_in_words(first), " to ", cardinal(last)))
    if bare and (len(first), len(last)) == (3, 4) and last[-1] != "0":
        return as_words(match, telephone(match[0]))
    if bare and first == last:
        return _ends(match, first, " ", last)
    # A thousand times as much ends a range only where something is counted: "1-8090" is a name.
    if bare and len(last) - len(first) > 2 and not re.match(" [a-z]", after) and last[-2:] != "00":
        return _ends(match, first, " ", last)
    if bare and match[0] != "9-5" and (len(first), first) > (len(last), last):
        return match[0]
    if bare or (before and before in "$£€¥₹"):
        return _ends(match, first, " to ", last)
    return match[0]


def _ends(match: re.Match[str], first: str, between: str, last: str) -> tuple[str | Part, ...]:
    """What stands for the two sides of a match's first hyphen."""
    hyphen = match.string.index("-", match.start())
    return (
        Part(first, match.start(), hyphen),
        between,
        Part(last, hyphen + 1, match.end()),
    )


def _unit_range(match: re.Match[str]) -> Replacement:
    sign, first, unit, last, last_unit = match.groups()
    ascends = _size(first) < _size(last)
    if not (ascends or sign or unit or (last_unit or "").strip()):
        return match[0]
    if not (sign or unit) and first.isdecimal() and len(first) == 4:  # no year: "1980-1990 kg"
        first = cardinal(first)
    return part(match, 1), part(match, 2, first), *([part(match, 3)] if unit else []), " to "


def _size(number: str) -> float:
    try:
        return float(number.replace(",", ""))
    except ValueError:
        return 0.0


# --- Powers and symbols --------------------------------------------------------------------------

# fmt: off
_SYMBOLS = {
    "&": "and", "+": "plus", "±": "plus or minus", "×": "times", "÷": "divided by", "=": "equals",
    "==": "equals", "===": "equals", "≠": "is not equal to", "!=": "is not equal to",
    "<": "less than",
    ">": "greater than", "≤": "less than or equal to", "≥": "greater than or equal to",
    "<=": "less than or equal to", ">=": "greater than or equal to", "->": "to", "=>": "to",
    "+=": "plus equals", "&&": "and", "≈": "approximately", "~": "about", "√": "square root of",
    "∞": "infinity",
    "°F": "degrees Fahrenheit", "°C": "degrees Celsius", "§§": "sections",
    "@": "at", "#": "hash", "%": "percent", "°": "degrees",
    "§": "section", "¶": "paragraph",
    "^": "to the power of", "/": "slash", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen",
    "₹": "rupee", "₩": "won", "₽": "ruble", "₺": "lira", "₪": "shekel", "₫": "dong", "₦": "naira",
    "₱": "peso", "₴": "hryvnia", "฿": "baht", "₿": "bitcoin", "¢": "cent", "∑": "sum",
    "∏": "product", "∫": "integral",
    "∂": "partial", "∆": "delta", "∈": "in", "∉": "not in", "∪": "union", "∩": "intersection",
    "∀": "for all", "∃": "there exists", "∅": "the empty set", "¬": "not", "∧": "and", "∨": "or",
    "π": "pi", "‰": "per mille", "♀": "female", "♂": "male", "♥": "heart", "†": "", "‡": "",
}
# fmt: on
_POWER = re.compile(r"\^([23])(?![0-9]|[.,][0-9])")
_POWERS = {"2": "squared", "3": "cubed"}
_SHARP = re.compile(rf"(?<![^\W_])(?<={LETTER})#(?!\w)|(?<=\b[A-Za-z])#(?!\w)")
_PAIRS = re.compile(
    r"(?i)\b(and/or|he/she|she/he|his/her|her/his|him/her|s/he|they/them|she/her|he/him|yes/no|on/off|either/or)\b"
)
# Settings > Network: where to go, no comparison.
_MENU = re.compile(r" >(?<=[^\W\d_]{2} >)(?= [A-Z][a-z])")
_SYMBOL = re.compile(rf"°[CF](?![^\W_])|{any_of(_SYMBOLS.keys() - {'°C', '°F'})}")
_DEGREES_OR = re.compile("/(?<=°[CF]/)(?=°[CF])")


def read_powers(text: MappedText) -> MappedText:
    return text.sub(_POWER, lambda match: as_words(match, _POWERS[match[1]]))


def read_symbols(text: MappedText) -> MappedText:
    if ">" in text:
        text = text.sub(_MENU, ",")
    if "#" in text:
        text = text.sub(_SHARP, lambda match: as_words(match, "sharp"))
    if "/" in text:
        text = text.sub(_DEGREES_OR, " or ")
        text = text.sub(_PAIRS, lambda match: match[0].replace("/", " "))
    return text.sub(_SYMBOL, lambda match: as_words(match, _SYMBOLS[match[0]]))
