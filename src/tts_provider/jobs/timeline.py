"""Parts → one timeline: where each chapter and line is, and the sound, as loud all the way.

Nothing here has more than one part in memory, so a book may have any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tts_provider.audio.loudness import loudness_lufs
from tts_provider.audio.pcm import Samples
from tts_provider.jobs.parts import PartFacts, PartFolder, to_float
from tts_provider.jobs.plan import Line, Part, Plan
from tts_provider.jobs.speaker import TimedWord
from tts_provider.speech.engine import SAMPLE_RATE

TARGET_LUFS = -20.0
"""Of every part: what audiobooks are delivered at, between the -23 of broadcasts and the -18 of
podcasts in mono."""
PEAK = 10 ** (-1 / 20)
"""Nothing is louder than -1 dBFS; a part whose peaks are higher stays quieter than the target."""
_MOST_GAIN = 10.0
_ENOUGH_S = 10.0
"""A part that has less is as loud as its chapter: one short line says little."""
_BLOCKS_PER_S = 10


@dataclass(frozen=True)
class PlacedChapter:
    title: str
    start: int
    """In samples, and so is `end`; the pause behind it belongs to it."""
    end: int


@dataclass(frozen=True)
class PlacedLine:
    line: Line
    start: int
    """In samples from the chapter's beginning; `end` is without the pause."""
    end: int
    words: tuple[TimedWord, ...]
    """On the same timeline."""


class Timeline:
    """Of a plan whose parts are all there."""

    def __init__(self, plan: Plan, folder: PartFolder) -> None:
        """Raises `TTSError` where one cannot be read."""
        self.plan = plan
        self._folder = folder
        self._parts = [plan.parts_of(number) for number in range(len(plan.book.chapters))]
        chapters, position = list[PlacedChapter](), 0
        for chapter, parts in zip(plan.book.chapters, self._parts, strict=True):
            start = position
            for part in parts:
                position += part_samples(part, folder.facts(part.number))
            chapters.append(PlacedChapter(chapter.title, start, position))
        self.chapters = tuple(chapters)

    @property
    def samples(self) -> int:
        return self.chapters[-1].end if self.chapters else 0

    def lines(self, chapter: int) -> Iterator[PlacedLine]:
        """Of one chapter, those that have a sound."""
        position = 0
        for part in self._parts[chapter]:
            facts = self._folder.facts(part.number)
            for line, spoken in zip(part.lines, facts.lines, strict=True):
                if not spoken.samples:
                    continue
                words = tuple(
                    TimedWord(w.start + position, w.end + position, w.text_start, w.text_end)
                    for w in spoken.words
                )
                end = position + spoken.samples
                yield PlacedLine(line, position, end, words)
                position = end + _pause(line)

    def sound(self) -> Iterator[Samples]:
        """All of it, in pieces."""
        for chapter in range(len(self._parts)):
            yield from self.chapter_sound(chapter)

    def chapter_sound(self, chapter: int) -> Iterator[Samples]:
        """The same of one chapter: it does not depend on others."""
        parts = self._parts[chapter]
        fallback = self._chapter_lufs(chapter)
        for part in parts:
            facts = self._folder.facts(part.number)
            samples = to_float(self._folder.sound(part.number)) * _gain(facts, fallback)
            position = 0
            for line, spoken in zip(part.lines, facts.lines, strict=True):
                if not spoken.samples:
                    continue
                yield samples[position : position + spoken.samples]
                yield np.zeros(_pause(line), np.float32)
                position += spoken.samples

    def _chapter_lufs(self, chapter: int) -> float | None:
        energies = list[float]()
        for part in self._parts[chapter]:
            energies += self._folder.facts(part.number).energies
        return loudness_lufs(energies)


def part_samples(part: Part, facts: PartFacts) -> int:
    """How long a part is, with its pauses."""
    return sum(
        spoken.samples + _pause(line)
        for line, spoken in zip(part.lines, facts.lines, strict=True)
        if spoken.samples
    )


def _pause(line: Line) -> int:
    return round(line.pause_s * SAMPLE_RATE)


def _gain(facts: PartFacts, chapter_lufs: float | None) -> np.float32:
    own_lufs = loudness_lufs(facts.energies)
    is_enough = len(facts.energies) >= _ENOUGH_S * _BLOCKS_PER_S
    lufs = own_lufs if is_enough or chapter_lufs is None else chapter_lufs
    if lufs is None or not facts.peak:
        return np.float32(1.0)
    gain = 10 ** ((TARGET_LUFS - lufs) / 20)
    return np.float32(min(gain, PEAK / facts.peak, _MOST_GAIN))
