"""Measures how loud speech is: ITU-R BS.1770-5, mono.

The K-weighting is applied to the spectrum of each block instead of by its two filters in time,
which numpy does not have. A block of 400 ms is long compared with their memory of some
milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples

_RATE = 24_000  # of all samples in this file
_BLOCK = _RATE * 400 // 1000
_HOP = _BLOCK // 4
_OFFSET = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_BLOCKS_AT_ONCE = 64  # 5 MB of spectra

# Tables 1 and 2, for 48 kHz: a head's shelf, and a high pass.
_FILTERS = (
    (
        (1.53512485958697, -2.69169618940638, 1.19839281085285),
        (-1.69065929318241, 0.73248077421585),
    ),
    ((1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621)),
)


def block_energies(samples: Samples) -> npt.NDArray[np.float64]:
    """(n,) at 24 kHz → the weighted mean square of each block, (m,); one for shorter sound."""
    if not len(samples):
        return np.zeros(0)
    if len(samples) < _BLOCK:
        samples = np.pad(samples, (0, _BLOCK - len(samples)))
    blocks = np.lib.stride_tricks.sliding_window_view(samples, _BLOCK)[::_HOP]
    weights = _weights()
    energies = [
        (np.abs(np.fft.rfft(blocks[at : at + _BLOCKS_AT_ONCE])) ** 2 @ weights)
        for at in range(0, len(blocks), _BLOCKS_AT_ONCE)
    ]
    return np.concatenate(energies)


def loudness_lufs(energies: Iterable[float]) -> float | None:
    """The loudness of all blocks together, without quiet ones; None if all are quiet."""
    heard = np.fromiter(energies, np.float64)
    heard = heard[heard > _energy(_ABSOLUTE_GATE_LUFS)]
    if not len(heard):
        return None
    heard = heard[heard > _energy(_lufs(heard) + _RELATIVE_GATE_LU)]
    return _lufs(heard)


def _lufs(energies: npt.NDArray[np.float64]) -> float:
    return float(_OFFSET + 10 * np.log10(energies.mean()))


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


@functools.cache
def _weights() -> npt.NDArray[np.float64]:
    """What each bin of a block's spectrum adds to its mean square."""
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(_BLOCK, 1 / _RATE) / 48_000)
    gain = np.ones(len(z))
    for (b0, b1, b2), (a1, a2) in _FILTERS:
        gain *= np.abs((b0 + b1 * z + b2 * z**2) / (1 + a1 * z + a2 * z**2)) ** 2
    sides = np.full(len(z), 2.0)  # a real signal's spectrum has each frequency twice
    sides[0] = sides[-1] = 1.0
    weights: npt.NDArray[np.float64] = gain * sides / _BLOCK**2
    return weights
