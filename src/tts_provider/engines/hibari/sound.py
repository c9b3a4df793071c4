"""Spectra → sound: an inverse short-time Fourier transform, in blocks.

Each frame's spectrum is a sum of three: a train of pulses at the pitch, filtered; noise, shaped;
and a part with a phase of its own.

    S = e^harmonic · e^(iπ tanh turn) · STFT(pulses) + e^noise · Z + e^free · e^(i phase)

Blocks are cut alike whatever the listener does, so the same spectra and seed give the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tts_provider.engines.hibari.graph import Floats, Spectra
from tts_provider.speech.engine import SAMPLE_RATE, Samples

HOP = 300
"""Samples a frame: 12.5 ms."""
_SIZE = 4 * HOP
_BLOCK_FRAMES = 32
_REACH = 2  # frames to either side whose windows reach into a frame's hop
_LOUDEST = 7.0  # of a log magnitude: more is a fault of the network
_VOICED_HZ = 40.0
_HIGHEST_HZ = 11_000.0  # harmonics stay below Nyquist

_AUDIBLE = 2e-3  # −54 dB; its silence is below −100 dB
_KNEE, _CEILING = 0.7, 0.95

_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_SIZE) / _SIZE)).astype(np.float32)
_ANALYSIS = _WINDOW / np.float32(_WINDOW.sum() / 2)  # a cosine of amplitude 1 has magnitude 1
_SYNTHESIS = _WINDOW / np.float32(1.5)  # four squared Hann windows a quarter apart sum to 3/2


def render(
    spectra: Spectra, first: int, last: int, noise: np.random.Generator
) -> Iterator[Samples]:
    """The samples of the frames from `first` to before `last`, in pieces of up to 0.4 s."""
    pulses = _Pulses(spectra.f0)
    begin, end = max(0, first - _REACH), min(len(spectra.f0), last + _REACH)
    held = np.zeros(_SIZE - HOP, np.float32)  # windows overlap: begun, and not complete yet
    # A frame's window begins two hops before the frame does.
    skip = (first - begin + _REACH) * HOP
    left = (last - first) * HOP
    for block in range(begin, end, _BLOCK_FRAMES):
        frames = _frames(spectra, slice(block, min(block + _BLOCK_FRAMES, end)), pulses, noise)
        made = np.zeros(len(frames) * HOP + len(held), np.float32)
        made[: len(held)] = held
        for at, frame in enumerate(frames):
            made[at * HOP : at * HOP + _SIZE] += frame
        done, held = made[: -len(held)], made[-len(held) :]
        done, skip = done[skip:], max(0, skip - len(done))
        piece, left = done[:left], left - min(left, len(done))
        if len(piece):
            yield piece
    if left:
        yield held[skip:][:left]


def _frames(spectra: Spectra, block: slice, pulses: _Pulses, noise: np.random.Generator) -> Samples:
    """Windowed waves, (frames, size)."""
    spectrum = np.fft.rfft(pulses.windows(block) * _ANALYSIS)  # (frames, bins)
    angle = np.float32(np.pi) * np.tanh(spectra.turn[:, block].T)
    spectrum *= _polar(spectra.harmonic[:, block].T, angle)
    shape = (*spectrum.shape, 2)
    hiss = noise.standard_normal(shape, np.float32).view(np.complex64)[..., 0]
    spectrum += hiss * _magnitude(spectra.noise[:, block].T)
    spectrum += _polar(spectra.free[:, block].T, spectra.phase[:, block].T)
    waves: Samples = np.fft.irfft(spectrum, _SIZE) * _SYNTHESIS
    return waves


def _magnitude(log: Floats) -> Floats:
    return np.exp(np.minimum(log, np.float32(_LOUDEST)))


def _polar(log: Floats, angle: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.complex64]]:
    made = np.empty(log.shape, np.complex64)
    magnitude = _magnitude(log)
    np.multiply(np.cos(angle), magnitude, out=made.real)
    np.multiply(np.sin(angle), magnitude, out=made.imag)
    return made


class _Pulses:
    """Every harmonic below 11 kHz at amplitude 1, with half a window of silence at both ends;
    silence where nothing vibrates. Made as far as somebody looks: of 5 s all would be 3 ms.

    The sum of cos(k t) for k = 1 … n is sin((n + ½) t) / (2 sin(t / 2)) − ½ (Dirichlet).
    """

    def __init__(self, f0: Floats) -> None:
        self._f0 = f0
        # A frame's pitch is that of its hop's middle.
        self._middles = (np.arange(len(f0)) + 0.5) * HOP - 0.5
        self._padded = np.zeros(len(f0) * HOP + _SIZE, np.float32)
        self._windows = np.lib.stride_tricks.sliding_window_view(self._padded, _SIZE)[::HOP]
        self._made = 0
        self._hz_sum = 0.0

    def windows(self, block: slice) -> Samples:
        """Those of some frames, (frames, size)."""
        end = min((block.stop - 1) * HOP + _SIZE // 2, len(self._f0) * HOP)
        if end > self._made:
            self._make(end)
        return self._windows[block]

    def _make(self, end: int) -> None:
        hz = np.interp(np.arange(self._made, end), self._middles, self._f0).astype(np.float32)
        is_voiced = hz > _VOICED_HZ
        hz = np.maximum(hz, np.float32(_VOICED_HZ))
        sums = hz.astype(np.float64)
        sums[0] += self._hz_sum
        sums = np.cumsum(sums)
        self._hz_sum = float(sums[-1])
        angle = (2 * np.pi * (sums / SAMPLE_RATE % 1.0)).astype(np.float32)
        order = np.floor(np.float32(_HIGHEST_HZ) / hz) + np.float32(0.5)
        below = 2 * np.sin(angle / 2)
        # There the quotient tends to its limit, and the division to noise.
        is_peak = np.abs(below) <= 2e-3
        below[is_peak] = 1
        made = np.where(is_peak, order, np.sin(order * angle) / below) - np.float32(0.5)
        made[~is_voiced] = 0
        self._padded[_SIZE // 2 + self._made : _SIZE // 2 + end] = made
        self._made = end


class Gate:
    """Lets through what is heard: silence before and behind it stays out, but for what is kept."""

    def __init__(self, lead: int, pause: int) -> None:
        """Both in samples."""
        self._lead, self._pause = lead, pause
        self._held = np.zeros(0, np.float32)
        self.dropped: int | None = None
        """Samples before the first that was let through; None until there is one."""
        self.heard = 0
        """Where the last that can be heard is, from the beginning of the input on."""
        self._pushed = 0

    def push(self, samples: Samples) -> Samples:
        loud = np.flatnonzero(np.abs(samples) > _AUDIBLE)
        begin = self._pushed - len(self._held)
        self._held = np.concatenate([self._held, samples])
        self._pushed += len(samples)
        if not len(loud):
            if self.dropped is None:
                self._held = self._held[max(0, len(self._held) - self._lead) :]
            return self._held[:0]
        if self.dropped is None:
            first = self._pushed - len(samples) + int(loud[0])
            self.dropped = max(begin, first - self._lead)
            self._held = self._held[self.dropped - begin :]
            begin = self.dropped
        self.heard = self._pushed - len(samples) + int(loud[-1]) + 1
        done, self._held = self._held[: self.heard - begin], self._held[self.heard - begin :]
        return done

    def finish(self) -> Samples:
        """The pause at the end."""
        if self.dropped is None:
            return self._held[:0]
        kept = self._held[: self._pause]
        return np.pad(kept, (0, self._pause - len(kept)))


def limit(samples: Samples) -> Samples:
    """Below the knee as it is, above it bent so that nothing clips."""
    loud = np.abs(samples)
    if loud.max(initial=0) <= _KNEE:
        return samples
    bent = _KNEE + (_CEILING - _KNEE) * np.tanh((loud - _KNEE) / (_CEILING - _KNEE))
    return np.where(loud > _KNEE, np.copysign(bent, samples), samples).astype(np.float32)
