"""Finds which script a text is written in, and so whether English can say it or another voice
must."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tts_provider.speech.engine import Phonemes

LATIN = "LATIN"

# Unicode's name of a letter begins with its script. A script that several languages write is read
# in the one that most people read it in.
LANGUAGES = {
    "ARABIC": "ar",
    "ARMENIAN": "hy",
    "BENGALI": "bn",
    "CHEROKEE": "chr",
    "CJK": "cmn",
    "CYRILLIC": "ru",
    "DEVANAGARI": "hi",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}


@dataclass(frozen=True)
class Script:
    """A stretch of text in one script, from character `at` on."""

    text: str
    at: int
    name: str

    def part(self, phonemes: Iterable[Phonemes]) -> list[Phonemes]:
        """Those of this stretch, in its own characters."""
        end = self.at + len(self.text)
        return [
            replace(one, start=one.start - self.at, end=one.end - self.at)
            for one in phonemes
            if self.at <= one.start and one.end <= end
        ]


def split_scripts(text: str) -> Iterator[Script]:
    """The runs of a text. What belongs to no script goes with what is before it, and with Latin at
    the beginning; Chinese characters beside kana are Japanese."""
    if text.isascii():
        yield from [Script(text, 0, LATIN)] if text else []
        return
    has_kana = any(_script(character) in ("HIRAGANA", "KATAKANA") for character in text)
    begun, current = 0, None
    for at, character in enumerate(text):
        script = _script(character)
        if has_kana and script in ("CJK", "KATAKANA"):
            script = "HIRAGANA"
        if script is None or script == current:
            continue
        if current is not None:
            yield Script(text[begun:at], begun, current)
            begun = at
        current = script
    if begun < len(text):
        yield Script(text[begun:], begun, current or LATIN)


def _script(character: str) -> str | None:
    """None for what every script has: marks, digits, spaces, modifiers."""
    if character.isascii():
        return LATIN if character.isalpha() else None
    # ª, ﬁ and 𝐇 are letters of others in another dress.
    plain = unicodedata.normalize("NFKC", character)[0]
    if not plain.isalpha() or unicodedata.category(plain) == "Lm":
        return None
    return unicodedata.name(plain, LATIN).split(maxsplit=1)[0]
