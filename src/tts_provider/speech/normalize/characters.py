"""Odd characters → the ones everybody types: quotes, dashes, ligatures, circled, full-width."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tts_provider.speech.mapped_text import MappedText

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‘’‚‛´′ʼʹʻ＇", "'"),
        **dict.fromkeys("‐‑−", "-"),
        **dict.fromkeys("—―", " -- "),
        **dict.fromkeys("→⇒➔➜", " to "),
        **dict.fromkeys("•‣◦·●▪○", "•"),
        **dict.fromkeys("★☆⭐", " star "),
        **dict.fromkeys("✓✔", " check "),
        **dict.fromkeys("✗✘", " cross "),
        # Soft hyphen, zero-width space, text direction, joiners, byte order mark.
        **dict.fromkeys("\xad\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"),
        **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
        **dict.fromkeys("\u2007\u2009\u202f", "\u00a0"),
        "♯": " sharp",
        "♭": " flat",
        "♮": " natural",
        "…": "...",
        "⁄": "/",
        "№": "#",
        "½": " 1/2",
        "⅓": " 1/3",
        "⅔": " 2/3",
        "¼": " 1/4",
        "¾": " 3/4",
        "₩": "₩",
    }
)
_CHARACTER = re.compile(f"[{re.escape(''.join(map(chr, _CHARACTERS)))}]")
# Letters and numbers in another dress: Unicode has their plain form.
_DRESSED = re.compile(
    "[\u2080-\u209c\u2100-\u2115\u2117-\u2121\u2123-\u214f\u2150-\u2188\u2460-\u24ff\u2776-\u2793"
    "\u3248-\u324f\u3250-\u325f\u32b1-\u32bf\u3371-\u337a\u3380-\u33df\ufb00-\ufb06\uff04\uff05"
    "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uffe0-\uffe6\U0001d400-\U0001d7ff\U0001f100-\U0001f16a]"
)
_ENCLOSED = re.compile(
    "[\u2150-\u215e\u2189\u2460-\u24ff\u2776-\u2793\u3248-\u32bf\U0001f100-\U0001f16a]"
)
# The unit's sign, unless it is a letter of a Greek word.
_MU = re.compile("μ(?<![Α-Ωα-ωά-ώ].)(?![Α-Ωα-ωά-ώ])")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_POWER_BASE = re.compile(r"(?:[0-9)\]]|(?<![^\W\d_])[^\W\d_]{1,2})\Z")
# Pictures, arrows, boxes, trademark signs, control and private characters, lone surrogates.
_UNSPEAKABLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f©®™\u20e3\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\ufe0f"
    "\ue000-\uf8ff\ud800-\udfff\U0001f000-\U0001faff\U000e0000-\U000e007f]\u200d*"
)
_DEGREE = re.compile("(?<=[0-9])[º˚]|(?<=[0-9] )[º˚](?=[CF])")
_EN_DASH_RANGE = re.compile(r"(?:(?<=[0-9%])|(?<=[AaPp][Mm])|(?<=[ap]\.m\.)) ?– ?(?=[0-9$£€¥₹])")


def plain_characters(text: MappedText) -> MappedText:
    if text.string.isascii():
        return text.sub(_UNSPEAKABLE, " ")
    text = text.sub(_CHARACTER, lambda match: match[0].translate(_CHARACTERS))
    text = text.sub(_MU, "µ")
    text = text.sub(_SUPERSCRIPT, _power)
    text = text.sub(_DEGREE, "°")
    text = text.sub(_DRESSED, lambda match: _plain(match[0]))
    text = text.sub(_UNSPEAKABLE, " ")
    if "–" not in text:
        return text
    return text.sub(_EN_DASH_RANGE, "-").replace("–", " -- ")


def _power(match: re.Match[str]) -> str:
    """An exponent; after a word or a full stop it is the number of a note, which is not spoken."""
    before = match.string[max(0, match.start() - 3) : match.start()]
    if not _POWER_BASE.search(before):
        return ""
    return "^" + match[0].translate(_SUPERSCRIPTS)


@lru_cache(maxsize=2048)
def _plain(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character).replace("\u2044", "/").replace("μ", "µ")
    if plain == character:
        number = unicodedata.numeric(character, None)
        plain = " " if number is None else str(int(number))
    if not _ENCLOSED.match(character):
        return plain.translate(_CHARACTERS)
    bare = plain.strip("()[].")
    return f" {bare} "
