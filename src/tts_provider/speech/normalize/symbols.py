"""Signs and symbols → words: minus, about, ranges, powers, and what no other pass took."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.addresses import telephone
from tts_provider.speech.normalize.dates import year_in_words
from tts_provider.speech.normalize.numbers import cardinal, spelled
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, any_of, as_words
from tts_provider.speech.normalize.quantities import UNIT

# --- Signs and ranges ----------------------------------------------------------------------------

_CHAIN = re.compile(r"(?<![0-9])(?<![0-9]-)[0-9]+(?:-[0-9]+)+")
_UNIT_RANGE = re.compile(rf"(?<=[0-9])( ?(?:{UNIT}|[AaPp][Mm]))?-(?={CURRENCY}?[0-9])")
_MINUS = re.compile(rf"(?<!\w)-(?={CURRENCY}?[0-9])")
_DIGIT_HYPHEN = re.compile(rf"(?<=[0-9])-|-(?={CURRENCY}?[0-9])")
_ABOUT = re.compile(rf"~(?=-?{CURRENCY}?[0-9])")
_BY = re.compile(r"(?<=[0-9]) ?x ?(?=[0-9])")
_FOLD = re.compile(rf"(?<=[0-9])x(?!{LETTER})")


def read_signs(text: str) -> str:
    text = _ABOUT.sub(lambda match: as_words(match, "about"), text)
    return _MINUS.sub(lambda match: as_words(match, "minus"), text)


def read_ranges(text: str) -> str:
    text = _CHAIN.sub(_chain, text)
    text = _UNIT_RANGE.sub(r"\1 to ", text)
    text = _DIGIT_HYPHEN.sub(" ", text)
    return _FOLD.sub(" times", _BY.sub(" by ", text))


def _chain(match: re.Match[str]) -> str:
    parts = match[0].split("-")
    if len(parts) > 2:
        return as_words(match, ", ".join(spelled(part) for part in parts))
    first, last = parts
    before = match.string[max(0, match.start() - 1) : match.start()]
    bare = not before or before not in "$£€¥₹.,:"
    if bare and "1100" <= first <= "2099" and len(first) == 4:
        if len(last) == 4 and first < last <= "2099":
            return as_words(match, f"{year_in_words(first)} to {year_in_words(last)}")
        if len(last) == 2 and first[2:] < last:
            return as_words(match, f"{year_in_words(first)} to {cardinal(last)}")
    if bare and (len(first), len(last)) == (3, 4) and last[-1] != "0":
        return as_words(match, telephone(match[0]))
    return f"{first} to {last}"


# --- Powers and symbols --------------------------------------------------------------------------

# fmt: off
_SYMBOLS = {
    "&": "and", "+": "plus", "±": "plus or minus", "×": "times", "÷": "divided by", "=": "equals",
    "==": "equals", "≠": "is not equal to", "!=": "is not equal to", "<": "less than",
    ">": "greater than", "≤": "less than or equal to", "≥": "greater than or equal to",
    "<=": "less than or equal to", ">=": "greater than or equal to", "->": "to", "=>": "to",
    "≈": "approximately", "~": "about", "√": "square root of", "∞": "infinity", "@": "at",
    "#": "hash", "%": "percent", "°": "degrees", "§": "section", "^": "to the power of",
    "/": "slash", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "¢": "cent",
}
# fmt: on
_POWER = re.compile(r"\^([23])(?![0-9]|[.,][0-9])")
_POWERS = {"2": "squared", "3": "cubed"}
_SHARP = re.compile(rf"(?<={LETTER})#")
_HASHTAG = re.compile(rf"#(?={LETTER})")
_SLASH_BETWEEN_WORDS = re.compile(rf"(?<={LETTER})/(?={LETTER})")
_SYMBOL = re.compile(any_of(_SYMBOLS))


def read_powers(text: str) -> str:
    return _POWER.sub(lambda match: as_words(match, _POWERS[match[1]]), text)


def read_symbols(text: str) -> str:
    text = _SHARP.sub(lambda match: as_words(match, "sharp"), text)
    text = _HASHTAG.sub(lambda match: as_words(match, "hashtag"), text)
    text = _SLASH_BETWEEN_WORDS.sub(" ", text)
    return _SYMBOL.sub(lambda match: as_words(match, _SYMBOLS[match[0]]), text)
