"""Japanese → Kokoro's sounds, by Open JTalk's readings (the package pyopenjtalk-plus)."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.errors import StartupError
from tts_provider.onnx_threads import sessions_of_others
from tts_provider.speech.engine import Phonemes

_SYLLABLES = """
ア a イ i ウ ɯ エ e オ o カ ka キ kʲi ク kɯ ケ ke コ ko ガ ɡa ギ ɡʲi グ ɡɯ ゲ ɡe ゴ ɡo
サ sa シ ɕi ス sɨ セ se ソ so ザ ʣa ジ ʥi ズ zɨ ゼ ʣe ゾ ʣo タ ta チ ʨi ツ ʦɨ テ te ト to
ダ da ヂ ʥi ヅ zɨ デ de ド do ナ na ニ ɲi ヌ nɯ ネ ne ノ no ハ ha ヒ çi フ ɸɯ ヘ he ホ ho
バ ba ビ bʲi ブ bɯ ベ be ボ bo パ pa ピ pʲi プ pɯ ペ pe ポ po マ ma ミ mʲi ム mɯ メ me モ mo
ヤ ja ユ jɯ ヨ jo ラ ɾa リ ɾʲi ル ɾɯ レ ɾe ロ ɾo ワ βa ヰ i ヱ e ヲ o ヴ vɯ
ァ a ィ i ゥ ɯ ェ e ォ o ャ ja ュ jɯ ョ jo ヮ βa ヵ ka ヶ ke ー ː ッ ʔ
イェ je ウィ βi ウェ βe ウォ βo ツァ ʦa ツィ ʦʲi ツェ ʦe ツォ ʦo ティ tʲi テュ tʲɨ ディ dʲi デュ dʲɨ
トゥ tɯ ドゥ dɯ ファ ɸa フィ ɸʲi フェ ɸe フォ ɸo フュ ɸʲɨ フョ ɸʲo ヴァ va ヴィ vʲi ヴェ ve ヴォ vo
クァ kᵝa クィ kᵝi クェ kᵝe クォ kᵝo グァ ɡᵝa グィ ɡᵝi グェ ɡᵝe グォ ɡᵝo シェ ɕe ジェ ʥe チェ ʨe
キェ kʲe ニェ ɲe ヒェ çe
"""
_KANA = dict(zip(*[iter(_SYLLABLES.split())] * 2, strict=True))
_SMALL = {"ャ": "a", "ュ": "ɨ", "ョ": "o"}
# One sound of two letters: キャ is what キ begins with, and what ャ ends with.
for _first, _sound in {
    "キ": "kʲ",
    "ギ": "ɡʲ",
    "シ": "ɕ",
    "ジ": "ʥ",
    "チ": "ʨ",
    "ヂ": "ʥ",
    "ニ": "ɲ",
    "ヒ": "ç",
    "ビ": "bʲ",
    "ピ": "pʲ",
    "ミ": "mʲ",
    "リ": "ɾʲ",
}.items():
    _KANA |= {f"{_first}{small}": f"{_sound}{vowel}" for small, vowel in _SMALL.items()}

_MARKS = {
    "。": ".",
    "、": ",",
    "，": ",",
    "．": ".",
    "？": "?",
    "！": "!",
    "：": ":",
    "；": ";",
    "「": "“",
    "」": "”",
    "『": "“",
    "』": "”",
    "（": "(",
    "）": ")",
    "…": "…",
    "―": "—",
    "〜": "—",
    "～": "—",
    "—": "—",
}
_OPENING = "“("
# What ends a word and is none of its own: 飲ん and で are one.
_SUFFIXES = ("助動詞", "接続助詞", "接尾")


class Japanese:
    """Call it from any thread; one at a time uses the library."""

    def __init__(self) -> None:
        """Takes a second. Raises `StartupError` without the package."""
        try:
            with sessions_of_others():
                import pyopenjtalk
        except ImportError:
            raise StartupError(
                "Kokoro's Japanese voices need a dictionary: pip install 'tts-provider[japanese]'"
            ) from None
        self._library: Any = pyopenjtalk
        self._lock = threading.Lock()
        self.pronounce("はい。")

    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation:
        """IPA that was asked for is left out: dictionaries of Japanese are written in kana."""
        with self._lock:
            # Its other reading of kanji takes a model of 70 MB.
            nodes = self._library.run_frontend(text, use_sudachi_kanji_yomi=False)
        parts, at = list[_Part](), 0
        for node in nodes:
            begun, at = _find(text, node["string"], at)
            is_mark = node["string"] in _MARKS
            kana = _MARKS[node["string"]] if is_mark else node["pron"]
            is_suffix = any(each in (node["pos"], node["pos_group1"]) for each in _SUFFIXES)
            if is_suffix and not is_mark and parts and not parts[-1].is_mark:
                parts[-1] = replace(parts[-1], end=at, kana=parts[-1].kana + kana)
            else:
                parts.append(_Part(begun, at, kana, is_mark))
        return _assemble(parts)


@dataclass(frozen=True)
class _Part:
    """A word of the text from `start` to before `end`, or a mark as Kokoro knows it."""

    start: int
    end: int
    kana: str
    is_mark: bool


def _assemble(parts: Sequence[_Part]) -> Pronunciation:
    phonemes, words = "", list[PronouncedWord]()
    for part in parts:
        sounds = part.kana if part.is_mark else _sounds(part.kana)
        if part.is_mark and sounds not in _OPENING:
            phonemes = phonemes.rstrip()
        elif not part.is_mark and sounds:
            first = len(phonemes)
            words.append(PronouncedWord(part.start, part.end, first, first + len(sounds)))
        phonemes += sounds + ("" if not sounds or sounds in _OPENING else " ")
    return Pronunciation(phonemes.strip(), tuple(words))


def _find(text: str, string: str, at: int) -> tuple[int, int]:
    """Where the next node of the text is: Open JTalk writes letters and digits wide, and spells
    numbers."""
    for form in (string, unicodedata.normalize("NFKC", string)):
        found = text.find(form, at)
        if found >= 0 and found - at <= len(form) + 2:
            return found, found + len(form)
    return at, min(at + 1, len(text))


def _sounds(kana: str) -> str:
    said = list(_syllables(kana))
    for place, sound in enumerate(said):
        if sound == "ン":  # it is said where what follows it is
            after = said[place + 1][:1] if place + 1 < len(said) else ""
            said[place] = next((n for sounds, n in _NASALS if after and after in sounds), "ɴ")
    return "".join(said)


_NASALS = (("mpb", "m"), ("kɡ", "ŋ"), ("ɲʨʥ", "ɲ"), ("ntdɾz", "n"))


def _syllables(kana: str) -> Iterator[str]:
    place = 0
    while place < len(kana):
        two = kana[place : place + 2]
        if len(two) == 2 and two in _KANA:
            yield _KANA[two]
            place += 2
            continue
        one = kana[place]
        if one == "ン" or one in _KANA:
            yield _KANA.get(one, one)
        place += 1
