"""Puts the watermark on speech as it is made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples
from tts_provider.audio.watermark import spectrum
from tts_provider.audio.watermark.network import Encoder
from tts_provider.audio.watermark.spectrum import HOP, SAMPLE_RATE, WINDOW

# The network sees a piece of 80 ms by itself: with what was before it and what follows, which
# would have to be waited for, the mark is found no better.
_PIECE_FRAMES = 8
_PIECE = _PIECE_FRAMES * HOP
_NEEDED = _PIECE + WINDOW - HOP
"""Samples from the first of a piece to the last that one of its frames sees: 134 ms. Those behind
the piece itself are what a listener waits for, 54 ms of audio."""

LEAD = SAMPLE_RATE * 320 // 1000
"""Samples at the beginning of what somebody waits for that have no mark, so that they can leave."""


class Marker:
    """Marks one stream. The output of `push` and `finish` is as long as the input, and does not
    depend on how that was cut.

    The mark is added to the samples in windows that overlap and fade in and out, so it begins, ends
    and goes from piece to piece without a click.
    """

    def __init__(self, encoder: Encoder, lead: int = 0) -> None:
        """The first `lead` samples stay unmarked."""
        self._encoder = encoder
        self._lead = lead
        self._held: Samples = np.zeros(0, np.float32)  # from the first that is not complete
        self._mark = np.zeros(_NEEDED, np.float32)  # of `_held`, as far as it is known

    @property
    def held(self) -> int:
        """How many samples went in and have not come out."""
        return len(self._held)

    def push(self, samples: Samples) -> Samples:
        """Return the complete samples, (m,); up to 134 ms are held back."""
        led, samples = samples[: self._lead], samples[self._lead :]
        self._lead -= len(led)
        self._held = np.concatenate([self._held, samples])
        done = [led]
        while len(self._held) >= _NEEDED:
            done.append(self._next())
        return np.concatenate(done)

    def finish(self) -> Samples:
        """Return the rest; the missing part of the last windows is silence."""
        left = len(self._held)
        self._held = np.concatenate([self._held, np.zeros(_NEEDED, np.float32)])
        done = [np.zeros(0, np.float32)]
        for _ in range(-(-left // _PIECE)):
            done.append(self._next())
        self._held = self._held[:0]
        return np.concatenate(done)[:left]

    def _next(self) -> Samples:
        """Adds one piece's frames to the mark; nothing that follows changes the piece."""
        self._mark += _mark_of(self._encoder, self._held[:_NEEDED])
        piece = self._held[:_PIECE] + self._mark[:_PIECE]
        self._held = self._held[_PIECE:]
        self._mark = np.concatenate([self._mark[_PIECE:], np.zeros(_PIECE, np.float32)])
        return piece


def _mark_of(encoder: Encoder, samples: Samples) -> Samples:
    """What one piece's frames add to the (_NEEDED,) samples that they see."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    spectra = spectrum.spectra(frames * _HANN)
    change = encoder.change(spectrum.levels(spectra))
    added = np.zeros((_PIECE_FRAMES, WINDOW // 2 + 1), np.complex64)
    added[:, : spectrum.BINS] = (spectra * (spectrum.gain(change) - 1)).T
    waves = np.fft.irfft(added, WINDOW).astype(np.float32) * _BACK
    mark = np.zeros(_NEEDED, np.float32)
    for number, wave in enumerate(waves):
        mark[number * HOP : number * HOP + WINDOW] += wave
    return mark


def _overlap() -> npt.NDArray[np.float32]:
    """(WINDOW,): the squares of all windows that lie over each sample."""
    folded = np.zeros(-(-WINDOW // HOP) * HOP, np.float32)
    folded[:WINDOW] = _HANN**2
    return np.resize(folded.reshape(-1, HOP).sum(axis=0), WINDOW)


_HANN = spectrum.window(WINDOW)
# The second window, the overlap's weight, and the loudness that the network knows.
_BACK = _HANN / _overlap() / spectrum.SCALE
