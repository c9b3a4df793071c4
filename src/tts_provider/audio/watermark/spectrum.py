"""Audio as the watermark's network sees it: one spectrum for each 10 ms.

The network was trained at 32 kHz, on windows of 2048 samples, 320 apart. At 24 kHz the same windows
last 1536 samples, 240 apart, and have the same frequencies in the same places: there are only fewer
above those that it looks at, which end at 2 kHz. So nothing is resampled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples

SAMPLE_RATE = 24_000
WINDOW = 1536
HOP = 240
BINS = 128
"""Of 15.625 Hz, the lowest."""

SCALE = 2048 / WINDOW
"""A window of 2048 samples adds up to so much more."""

# Perth's scale: 1e-9 is 0, and 15 dB more than 0 dB is 1.
_FLOOR, _FLOOR_DB, _SPAN_DB = 1e-9, -180.0, 195.0

Levels = npt.NDArray[np.float32]
"""(BINS, T), 0 where there is nothing, about 1 where it is loudest."""


def window(size: int) -> npt.NDArray[np.float32]:
    """Hann's, periodic."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def spectra(frames: Samples) -> npt.NDArray[np.complex64]:
    """Windowed (T, n) → (BINS, T), as loud as the network knows them."""
    scale = np.float32(SCALE * WINDOW / frames.shape[1])
    return np.fft.rfft(frames)[:, :BINS].T.astype(np.complex64) * scale


def levels(spectra: npt.NDArray[np.complex64]) -> Levels:
    decibels = 20 * np.log10(np.maximum(np.abs(spectra), np.float32(_FLOOR)))
    return ((decibels - _FLOOR_DB) / _SPAN_DB).astype(np.float32)


def gain(change: Levels) -> npt.NDArray[np.float32]:
    """What multiplies a spectrum whose levels change so much."""
    return np.asarray(np.power(np.float32(10), change * np.float32(_SPAN_DB / 20)))
