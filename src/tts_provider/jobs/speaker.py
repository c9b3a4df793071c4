"""The contract between a book and whoever speaks it: an engine of this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tts_provider.speech.engine import SAMPLE_RATE

Samples16 = npt.NDArray[np.int16]
"""Mono audio, 24 kHz, shape (n,)."""

# Quiet around speech is cut off, so that pauses are as long as they are meant to be.
_QUIET = round(10 ** (-50 / 20) * 32767)
_KEPT_BEFORE = SAMPLE_RATE * 20 // 1000
_KEPT_BEHIND = SAMPLE_RATE * 60 // 1000


@dataclass(frozen=True, slots=True)
class TimedWord:
    """When a word is spoken, in samples, and where it was written, in characters of its line."""

    start: int
    end: int
    text_start: int
    text_end: int


@dataclass(frozen=True)
class Speech:
    """What a line sounds like."""

    samples: Samples16
    words: tuple[TimedWord, ...] = ()
    """In order; none where the engine does not say."""


class Speaker(Protocol):
    """Speaks any number of lines at once."""

    @property
    def facts(self) -> Mapping[str, str]:
        """All that decides what it sounds like, as a person would call it: `voice`, `engine`,
        `model`, `speed`, … Half a book that was made with others is not gone on with."""

    async def speak(self, text: str) -> Speech:
        """The same each time it is asked. Without a sample where nothing in the text can be spoken.

        Raises `TTSError`, and then nothing of this line is kept.
        """


def trim(speech: Speech) -> Speech:
    """Without the quiet before and behind it."""
    loud = np.flatnonzero(np.abs(speech.samples.astype(np.int32)) > _QUIET)
    if not len(loud):
        return Speech(np.zeros(0, np.int16))
    start = max(int(loud[0]) - _KEPT_BEFORE, 0)
    end = min(int(loud[-1]) + 1 + _KEPT_BEHIND, len(speech.samples))

    def inside(at: int) -> int:
        return min(max(at, start), end) - start

    words = (
        TimedWord(inside(word.start), inside(word.end), word.text_start, word.text_end)
        for word in speech.words
    )
    return Speech(speech.samples[start:end], tuple(words))
