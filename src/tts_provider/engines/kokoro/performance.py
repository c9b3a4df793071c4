"""How a sentence is performed: which frames when, what is heard of them, where its words are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tts_provider.engines.hibari.sound import Gate, limit
from tts_provider.engines.hibari.voice import LEAD_SAMPLES, pause_samples
from tts_provider.engines.kokoro.network.graph import FRAME_SAMPLES, Frames
from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.speech.engine import Samples, Sound, Word

# The first sound begins before its phoneme does.
_EARLY_FRAMES = 4
# And so does every other: behind pauses words are heard 50 ms before their durations begin.
_AHEAD_FRAMES = 2

# Chunks grow: the first sound is soon, and what frames beside them cost is little in the end.
_CHUNKS = (16, 24, 40, 80)
_SPLINTER_FRAMES = 8
CONTEXT_FRAMES = 4
"""To each side of a chunk: in float32 it is then what the sentence is, to 96 dB (with 3: 49)."""
WHOLE_FRAMES = 80
"""A sentence below is decoded whole, with statistics of its own."""


@dataclass(frozen=True)
class Chunk:
    """Frames `begin` to before `end`, decoded among those from `left` to before `right`."""

    begin: int
    end: int
    left: int
    right: int

    def cut(self, samples: Samples) -> Samples:
        """Its own of the samples that were decoded."""
        begin = FRAME_SAMPLES * (self.begin - self.left)
        return samples[begin : begin + FRAME_SAMPLES * (self.end - self.begin)]


def chunks(first: int, frames: int) -> Iterator[Chunk]:
    """Those of a sentence that is heard from the frame `first` on."""
    if frames < WHOLE_FRAMES:
        yield Chunk(first, frames, 0, frames)
        return
    begin, number = first, 0
    while begin < frames:
        end = begin + _CHUNKS[min(number, len(_CHUNKS) - 1)]
        if frames - end < _SPLINTER_FRAMES:
            end = frames
        left, right = max(0, begin - CONTEXT_FRAMES), min(frames, end + CONTEXT_FRAMES)
        yield Chunk(begin, end, left, right)
        begin, number = end, number + 1


class Performance:
    """One stretch of phonemes as sound, and when its words are heard."""

    def __init__(self, frames: Frames, spoken: Pronunciation, gain: float) -> None:
        """`frames` are of `spoken`'s phonemes with a silence at both ends."""
        self._phonemes = spoken.phonemes
        self._gain = np.float32(gain)
        self._gate = Gate(LEAD_SAMPLES, pause_samples(spoken.phonemes))
        self._ends = np.cumsum(frames.durations)  # frames
        self._waiting = list(spoken.words)
        self._made = 0
        self.first = max(0, int(self._ends[0]) - _EARLY_FRAMES)
        """The first frame that is heard."""

    def push(self, samples: Samples) -> Sound:
        """What is heard of the next samples, and the words that ended."""
        heard = self._gate.push(limit(self._gain * samples))
        self._made += len(heard)
        # Where the last one ends the silence behind it tells.
        ended = [w for w in self._waiting[:-1] if self._place_end(w.last) <= self._made]
        self._waiting = self._waiting[len(ended) :]
        return Sound(heard, tuple(self._timed(word) for word in ended))

    def finish(self) -> Sound:
        """The pause behind it, and the words that are left."""
        left = [self._timed(word) for word in self._waiting]
        if left:
            heard = max(left[-1].start, self._gate.heard - (self._gate.dropped or 0))
            left[-1] = replace(left[-1], end=heard)
        return Sound(self._gate.finish(), tuple(left))

    def _timed(self, word: PronouncedWord) -> Word:
        begin, end = self._place(word.first), self._place_end(word.last)
        return Word(begin, max(begin, end), word.start, word.end)

    def _place(self, phoneme: int) -> int:
        """Where a phoneme is heard first, in samples; where the last ends, for their number."""
        frame = int(self._ends[phoneme]) - _AHEAD_FRAMES - self.first
        return max(0, frame * FRAME_SAMPLES - (self._gate.dropped or 0))

    def _place_end(self, phoneme: int) -> int:
        """Where what is before a phoneme ends. A space has no sound of its own: a word goes on
        until the next one begins."""
        return self._place(phoneme + (self._phonemes[phoneme : phoneme + 1] == " "))
