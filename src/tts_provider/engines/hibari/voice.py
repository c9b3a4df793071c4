"""The woman and the man that are made from the one voice in hibari's package, and how they perform
a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tts_provider.audio.pcm import Resampler
from tts_provider.engines.hibari.graph import FRAMES_A_DURATION, Spectra
from tts_provider.engines.hibari.sound import HOP, Gate, limit, render
from tts_provider.speech.engine import SAMPLE_RATE, Samples, Voice

VOICES = (
    Voice("male", "Male (hibari)", "male", "hibari", speaker=0, language="en-US"),
    Voice("female", "Female (hibari)", "female", "hibari", speaker=1, language="en-US"),
)


@dataclass(frozen=True)
class Character:
    """How a voice differs from the one in the package."""

    pitch: float
    """Factor of the fundamental frequency, inside the graph."""
    resonance: float
    """Factor of every frequency behind it, by resampling, which takes as much longer."""
    gain: float
    """To −20 dB."""

    @property
    def rate(self) -> float:
        """What the graph is asked for, so that resampling restores the tempo."""
        return 1 / self.resonance


CHARACTERS = {
    "male": Character(pitch=0.70, resonance=0.85, gain=1.8),
    "female": Character(pitch=1.0, resonance=1.0, gain=2.1),
}

# The silence that tells a listener that a sentence or a clause is over.
_PAUSE_MS = {**dict.fromkeys(".!?…", 300), **dict.fromkeys(",;:—", 160)}
_SHORTEST_PAUSE_MS = 40
_QUOTES = '”“"() '
LEAD_SAMPLES = SAMPLE_RATE * 5 // 1000
"""What is kept of the silence before the first sound: whoever waits for it hears nothing else."""
# Its first sound may begin before its first phoneme does.
_EARLY_FRAMES = 8
# And so does every other: aligned by `speech.warp` with espeak-ng, which says when it begins a
# word to a few milliseconds, words begin 77 ms before their durations do, and the man's, which are
# drawn out, 91 ms.
_AHEAD_FRAMES = 6


def pause_samples(phonemes: str, stretch: float = 1.0) -> int:
    """How much of the silence after these phonemes is kept, by the mark at their end."""
    mark = phonemes.rstrip(_QUOTES)[-1:]
    pause_ms = _PAUSE_MS.get(mark, _SHORTEST_PAUSE_MS) * stretch
    return round(SAMPLE_RATE * pause_ms / 1000)


class Performance:
    """One stretch of phonemes as sound, and when each phoneme is heard."""

    def __init__(self, spectra: Spectra, character: Character, phonemes: str) -> None:
        """`spectra` are of `phonemes` with a silence at both ends, at `character.rate`."""
        self._spectra, self._phonemes = spectra, phonemes
        self._gain = np.float32(character.gain)
        self._stretch = 1 / character.resonance
        self._gate = Gate(LEAD_SAMPLES, pause_samples(phonemes, 1 / self._stretch))
        self._resampler = Resampler(round(SAMPLE_RATE * character.resonance), SAMPLE_RATE)
        self._ends = FRAMES_A_DURATION * np.cumsum(spectra.durations)  # frames
        self._first = max(0, int(self._ends[0]) - _EARLY_FRAMES)

    def make(self, noise: np.random.Generator) -> Iterator[Samples]:
        """What is heard,"""
        for block in render(self._spectra, self._first, len(self._spectra.f0), noise):
            yield limit(self._resampler.push(self._gain * self._gate.push(block)))

    def finish(self) -> Samples:
        """and the pause behind it."""
        pause = self._resampler.push(self._gain * self._gate.finish())
        return limit(np.concatenate([pause, self._resampler.finish()]))

    def place(self, phoneme: int) -> int:
        """Where a phoneme is heard first, in samples; where the last ends, for their number. It is
        known as soon as something is heard."""
        sample = (int(self._ends[phoneme]) - _AHEAD_FRAMES - self._first) * HOP
        return self._place(sample)

    def place_end(self, phoneme: int) -> int:
        """Where what is before a phoneme ends. A space has no sound of its own: a word goes on
        until the next one begins."""
        return self.place(phoneme + (self._phonemes[phoneme : phoneme + 1] == " "))

    @property
    def heard(self) -> int:
        """Where the last that was heard ends, in samples."""
        return self._place(self._gate.heard)

    def _place(self, sample: int) -> int:
        return max(0, round((sample - (self._gate.dropped or 0)) * self._stretch))
