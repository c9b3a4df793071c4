"""Spanish, French, Italian, Portuguese and Hindi → Kokoro's sounds, by espeak-ng's IPA."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tts_provider.engines.espeak import engine as espeak
from tts_provider.engines.kokoro.phonemes.alphabet import of_dictionary, of_foreign
from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.engines.word_spans import find_words
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Phonemes

CODES = {"es": "es", "fr": "fr-fr", "hi": "hi", "it": "it", "pt-BR": "pt-br"}
"""espeak-ng's names of the languages."""

# Marks that Kokoro has learned, and how it knows others. A point or a comma within a word is none.
_HEARD = {
    **{mark: mark for mark in ';:,.!?…—"()“”'},
    "«": "“",
    "»": "”",
    "„": "“",
    "‹": "“",
    "›": "”",
    "–": "—",
    "।": ".",
    "॥": ".",
    "¿": "",
    "¡": "",
}
_MARK = re.compile(rf"(?<!\w)[.,:]|[.,:](?!\w)|[{re.escape(''.join(set(_HEARD) - set('.,:')))}]")

_Word = tuple[int, int]


class Foreign:
    """Call it from any thread."""

    def __init__(self, language: str) -> None:
        """`language` is one of `CODES`. Raises `StartupError` without espeak-ng."""
        if not espeak.is_installed():
            raise StartupError(
                f"Kokoro's voices of the language {language} need espeak-ng: "
                "pip install 'tts-provider[espeak]'"
            )
        self._code = CODES[language]

    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation:
        """`asked` says how parts of it are pronounced, in order; a part that has no sound that
        Kokoro knows is read as the others are."""
        runs = _split(text)
        spoken = espeak.to_ipa([text[begin:end] for begin, end, _ in runs], self._code)
        phonemes, words = "", list[PronouncedWord]()
        for (begin, end, mark), ipa in zip(runs, spoken, strict=True):
            groups = [sounds for group in ipa.split() if (sounds := of_foreign(group))]
            places = [(begin + a, begin + b) for a, b in find_words(text[begin:end])]
            for place, sounds in self._words(text, places, groups, asked):
                phonemes += " " if phonemes and phonemes[-1] not in " (“" else ""
                words.append(PronouncedWord(*place, len(phonemes), len(phonemes) + len(sounds)))
                phonemes += sounds
            if mark in ("(", "“") and phonemes:
                phonemes += " "
            phonemes += mark
        return Pronunciation(phonemes.strip(), tuple(words))

    def _words(
        self,
        text: str,
        places: Sequence[_Word],
        groups: Sequence[str],
        asked: Sequence[Phonemes],
    ) -> list[tuple[_Word, str]]:
        """Each word's place and sounds; those of a word that is said together with another are
        the other's."""
        if not places:
            return []
        if len(groups) == len(places):
            parts = [[group] for group in groups]
        else:
            alone = espeak.to_ipa([text[a:b] for a, b in places], self._code)
            parts = _share(groups, [len(of_foreign(ipa)) for ipa in alone])
        said = list[tuple[_Word, str]]()
        for (start, end), part in zip(places, parts, strict=True):
            own = next((one for one in asked if one.start <= start and end <= one.end), None)
            sounds = of_dictionary(own.ipa) if own is not None else ""
            if own is not None and sounds:
                # One pronunciation for several words is said with the first of them.
                sounds = sounds if own.start == start else ""
            else:
                sounds = " ".join(part)
            if sounds:
                said.append(((start, end), sounds))
        return said


def _split(text: str) -> list[tuple[int, int, str]]:
    """From where to where words follow each other without a mark, and the mark behind them."""
    runs, begun = list[tuple[int, int, str]](), 0
    for mark in _MARK.finditer(text):
        runs.append((begun, mark.start(), _HEARD[mark.group()]))
        begun = mark.end()
    runs.append((begun, len(text), ""))
    return runs


def _share(groups: Sequence[str], lengths: Sequence[int]) -> list[list[str]]:
    """Groups of sounds for words that sound so long alone: in order, as alike as can be."""
    most = len(groups)
    total = [0]
    for group in groups:
        total.append(total[-1] + len(group))
    # cost[n]: of giving the first n groups to the words so far
    cost: list[float] = [0.0, *[float("inf")] * most]
    ways = list[list[int]]()
    for length in lengths:
        fresh, way = list[float](), list[int]()
        for end in range(most + 1):
            begin = min(
                range(end + 1),
                key=lambda at: cost[at] + abs(total[end] - total[at] - length),
            )
            fresh.append(cost[begin] + abs(total[end] - total[begin] - length))
            way.append(begin)
        cost = fresh
        ways.append(way)
    parts, end = list[list[str]](), most
    for way in reversed(ways):
        parts.insert(0, list(groups[way[end] : end]))
        end = way[end]
    return parts
