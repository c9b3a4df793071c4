"""Mandarin → Kokoro's sounds: words by jieba, pinyin by pypinyin, and pinyin in IPA with tones."""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Phonemes

# https://en.wikipedia.org/wiki/Help:IPA/Mandarin, in Kokoro's letters; 0 is where the tone stands.
_INITIALS = {
    "b": "p",
    "c": "ʦʰ",
    "ch": "ꭧʰ",
    "d": "t",
    "f": "f",
    "g": "k",
    "h": "x",
    "j": "ʨ",
    "k": "kʰ",
    "l": "l",
    "m": "m",
    "n": "n",
    "p": "pʰ",
    "q": "ʨʰ",
    "r": "ɻ",
    "s": "s",
    "sh": "ʂ",
    "t": "tʰ",
    "x": "ɕ",
    "z": "ʦ",
    "zh": "ꭧ",
    "": "",
}
_FINALS = {
    "a": "a0",
    "ai": "ai0",
    "an": "a0n",
    "ang": "a0ŋ",
    "ao": "au0",
    "e": "ɤ0",
    "ei": "ei0",
    "en": "ə0n",
    "eng": "ə0ŋ",
    "er": "ɚ0",
    "i": "i0",
    "ia": "ja0",
    "ian": "jɛ0n",
    "iang": "ja0ŋ",
    "iao": "jau0",
    "ie": "je0",
    "in": "i0n",
    "ing": "i0ŋ",
    "iong": "jʊ0ŋ",
    "iou": "jou0",
    "ong": "ʊ0ŋ",
    "ou": "ou0",
    "u": "u0",
    "ua": "wa0",
    "uai": "wai0",
    "uan": "wa0n",
    "uang": "wa0ŋ",
    "uei": "wei0",
    "uen": "wə0n",
    "ueng": "wə0ŋ",
    "uo": "wo0",
    "o": "wo0",
    "ü": "y0",
    "üe": "ɥe0",
    "üan": "ɥɛ0n",
    "ün": "y0n",
    "ê": "ɛ0",
    "io": "jɔ0",
    "m": "m0",
    "n": "n0",
    "ng": "ŋ0",
    "hm": "hm0",
    "hng": "hŋ0",
}
_BUZZED = ("zh", "ch", "sh", "r", "z", "c", "s")  # before an i that is said where they are
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
_MARKS = {
    "。": ".",
    "．": ".",
    "，": ",",
    "、": ",",
    "！": "!",
    "？": "?",
    "：": ":",
    "；": ";",
    "“": "“",
    "”": "”",
    "「": "“",
    "」": "”",
    "《": "“",
    "》": "”",
    "（": "(",
    "）": ")",
    "—": "—",
    "…": "…",
    ".": ".",
    ",": ",",
    "!": "!",
    "?": "?",
    ":": ":",
    ";": ";",
}
_OPENING = "“("


class Chinese:
    """Call it from any thread; one at a time uses the libraries."""

    def __init__(self) -> None:
        """Takes a second. Raises `StartupError` without the packages."""
        try:
            with warnings.catch_warnings():  # of its code: old ways to write patterns
                warnings.simplefilter("ignore")
                import jieba
            import pypinyin
        except ImportError:
            raise StartupError(
                "Kokoro's Chinese voices need a dictionary: pip install 'tts-provider[chinese]'"
            ) from None
        jieba.setLogLevel("ERROR")
        self._words: Any = jieba.Tokenizer()
        # It would read what anybody left for it in the system's temporary folder.
        with tempfile.TemporaryDirectory(prefix="tts-provider-jieba-") as folder:
            self._words.tmp_dir = folder
            self._words.initialize()
        self._pypinyin: Any = pypinyin
        self._lock = threading.Lock()
        self.pronounce("你好。")

    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation:
        """IPA that was asked for is left out: it has no tones."""
        phonemes, words, at = "", list[PronouncedWord](), 0
        with self._lock:
            for word in self._words.cut(text):
                start, at = at, at + len(word)
                mark = _MARKS.get(word)
                if mark is not None and mark in _OPENING:
                    phonemes += mark
                elif mark is not None:
                    phonemes = phonemes.rstrip() + mark + " "
                elif sounds := "".join(map(to_ipa, self._pinyin(word))):
                    first = len(phonemes)
                    words.append(PronouncedWord(start, at, first, first + len(sounds)))
                    phonemes += sounds + " "
        return Pronunciation(phonemes.strip(), tuple(words))

    def _pinyin(self, word: str) -> list[tuple[str, str]]:
        """Initial and final with its tone's number, of each character."""
        style = self._pypinyin.Style

        def read(how: Any) -> list[str]:
            said: list[str] = self._pypinyin.lazy_pinyin(
                word, style=how, neutral_tone_with_five=True, errors="ignore", strict=True
            )
            return said

        return list(zip(read(style.INITIALS), read(style.FINALS_TONE3), strict=True))


def to_ipa(syllable: tuple[str, str]) -> str:
    """What a syllable sounds like; nothing where it is none."""
    initial, final = syllable
    tone = _TONES.get(final[-1:], "")
    final = final.rstrip("12345").replace("v", "ü")
    if initial not in _INITIALS or final not in _FINALS:
        return ""
    sounds = "ɨ0" if initial in _BUZZED and final == "i" else _FINALS[final]
    return _INITIALS[initial] + sounds.replace("0", tone)
