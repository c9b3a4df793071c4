"""Measures a recording of a voice (pitch, level, noise, clipping) and prepares it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from tts_provider.audio.pcm import Samples

_RATE = 24_000  # of all samples in this file

TARGET_DBFS = -23.0
"""The level of speech that EBU R 128 asks for."""
_PEAK = 0.89  # -1 dBFS, room for what resampling adds

_FRAME_SAMPLES = _RATE * 20 // 1000
_SILENT_DBFS = -80.0  # what is called silence even where nothing is louder
_BELOW_SPEECH_DB = 35.0  # the faintest consonants are about 30 dB below the loudest vowels
# 100 ms on either side of speech belong to it, and so pauses up to 200 ms.
_JOIN_FRAMES = 5

# YIN: https://doi.org/10.1121/1.1458024, steps 2 to 5. Without what is above 4 kHz: noise there
# says nothing of pitch.
_PITCH_RATE = 8000
_PITCH_HOP = _PITCH_RATE * 20 // 1000
_LOWEST_HZ, _HIGHEST_HZ = 60, 500  # bass to child
_LAGS = _PITCH_RATE // _LOWEST_HZ + 2
_WINDOW = _PITCH_RATE * 32 // 1000  # two periods of the lowest voice
_PERIODIC = 0.15  # of the normalized difference; the paper's threshold is 0.1
_VOICED = 0.3  # no better than this at any lag: a hiss, or two voices at once
_FEWEST_VOICED = 10
_BLOCK_FRAMES = 128  # at once, of the 3000 in a minute: 21 MB, else 80


@dataclass(frozen=True)
class Measured:
    """The measurements of a whole recording, silence around the speech included."""

    speech_ms: int
    """How long there is speech, pauses over 200 ms left out."""
    voiced_ms: int
    """How long it has a pitch."""
    pitch_hz: float | None
    """Median fundamental frequency; None where hardly anything is voiced."""
    speech_dbfs: float
    """Root mean square of the speech, full scale being 0."""
    noise_dbfs: float
    """Root mean square of the quietest twentieth."""
    clipped_share: float
    """Of the speech's samples, those in runs at the recording's highest level; 0 to 1."""

    @property
    def snr_db(self) -> float:
        return self.speech_dbfs - self.noise_dbfs


def measure(samples: Samples) -> Measured:
    """Measure a recording: `samples` are (n,) at 24 kHz, n > 0."""
    levels = _levels_dbfs(samples)
    active = _active(levels)
    pitches = _pitches_hz(samples)
    power = 10 ** (levels / 10)
    loud = active & (levels > _threshold_dbfs(levels))
    return Measured(
        speech_ms=_ms(int(active.sum()) * _FRAME_SAMPLES),
        voiced_ms=len(pitches) * 1000 * _PITCH_HOP // _PITCH_RATE,
        pitch_hz=_median(pitches),
        speech_dbfs=_decibels(float(power[loud].mean()) if loud.any() else 0.0),
        noise_dbfs=float(np.percentile(levels, 5)),
        clipped_share=_clipped_share(samples, int(active.sum()) * _FRAME_SAMPLES),
    )


def median_pitch_hz(samples: Samples) -> float | None:
    """Median fundamental frequency of the voiced parts; None if there are hardly any.

    `samples` are (n,) at 24 kHz.
    """
    return _median(_pitches_hz(samples))


def remove_offset(samples: Samples) -> Samples:
    """(n,) → (n,) around zero. The constant error of a converter is inaudible, but louder than the
    pauses."""
    if not len(samples):
        return samples
    return samples - np.float32(samples.mean(dtype=np.float64))


def trim_silence(samples: Samples) -> Samples:
    """(n,) → (m,) without the silence before and after the speech, but for 100 ms; may be empty."""
    frames = np.flatnonzero(_active(_levels_dbfs(samples)))
    if not len(frames):
        return samples[:0]
    return samples[int(frames[0]) * _FRAME_SAMPLES : (int(frames[-1]) + 1) * _FRAME_SAMPLES]


def normalize_level(samples: Samples, target_dbfs: float = TARGET_DBFS) -> Samples:
    """(n,) → (n,) whose speech has this root mean square, or less if peaks would clip."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return samples
    gain = 10 ** ((target_dbfs - measure_level_dbfs(samples)) / 20)
    return samples * np.float32(min(gain, _PEAK / peak))


def measure_level_dbfs(samples: Samples) -> float:
    """Root mean square of what is louder than the pauses."""
    levels = _levels_dbfs(samples)
    loud = levels > _threshold_dbfs(levels)
    return _decibels(float((10 ** (levels[loud] / 10)).mean()) if loud.any() else 0.0)


def _levels_dbfs(samples: Samples) -> npt.NDArray[np.float64]:
    """Root mean square of every 20 ms, (frames,); a rest at the end counts as a frame."""
    frames = -(-len(samples) // _FRAME_SAMPLES)
    padded = np.zeros(frames * _FRAME_SAMPLES)
    padded[: len(samples)] = samples
    power = (padded.reshape(frames, _FRAME_SAMPLES) ** 2).mean(axis=1)
    levels: npt.NDArray[np.float64] = 10 * np.log10(power + 1e-12)
    return levels


def _threshold_dbfs(levels: npt.NDArray[np.float64]) -> float:
    """Louder than this is speech: close to the loudest, and in noise clearly above the noise."""
    loud, floor = np.percentile(levels, [95, 5])
    above_noise = floor + min(6.0, (loud - floor) / 2)
    return float(max(loud - _BELOW_SPEECH_DB, above_noise, _SILENT_DBFS))


def _active(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which frames are speech or a short pause in it, (frames,)."""
    loud = levels > _threshold_dbfs(levels)
    # A click is not speech: loud frames of speech have loud neighbors.
    neighbors = np.convolve(loud, np.ones(5), "full")[2:-2] if len(loud) else loud
    loud &= neighbors >= 3
    widened = np.convolve(loud, np.ones(2 * _JOIN_FRAMES + 1), "full")
    return widened[_JOIN_FRAMES : _JOIN_FRAMES + len(loud)] > 0


def _clipped_share(samples: Samples, speech_samples: int) -> float:
    """The share of clipped samples. If a converter is driven beyond its range, several samples in a
    row stay at its highest value."""
    size = np.abs(samples)
    peak = float(size.max(initial=0.0))
    if peak < 0.1 or not speech_samples:
        return 0.0
    top = size >= 0.998 * peak
    runs = top[:-2] & top[1:-1] & top[2:]  # a run of three and more
    return min(1.0, float(runs.sum()) / speech_samples)


def _pitches_hz(samples: Samples) -> npt.NDArray[np.float64]:
    """The pitch of each voiced stretch of 20 ms, (voiced,)."""
    slow = soxr.resample(samples, _RATE, _PITCH_RATE, quality="HQ").astype(np.float64)
    size = _WINDOW + _LAGS
    if len(slow) < size:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(slow, size)[::_PITCH_HOP]
    level = np.sqrt((frames**2).mean(axis=1))
    loud = level > max(1e-4, 0.1 * float(np.percentile(level, 95)))
    frames = frames[loud]
    if not len(frames):
        return np.zeros(0)
    pitches = []
    for start in range(0, len(frames), _BLOCK_FRAMES):
        block = frames[start : start + _BLOCK_FRAMES]
        difference = _normalized_difference(block - block.mean(axis=1, keepdims=True))
        pitches += [pitch for row in difference if (pitch := _pitch_hz(row))]
    return np.array(pitches)


def _normalized_difference(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(frames, samples) → (frames, lags): how unlike each window is to itself a lag later, by the
    mean over all shorter lags. YIN's equations 6, by autocorrelation, and 8."""
    bins = 1 << (2 * frames.shape[1]).bit_length()
    window = np.fft.rfft(frames[:, :_WINDOW], bins)
    correlation = np.fft.irfft(np.fft.rfft(frames, bins) * np.conj(window), bins)[:, :_LAGS]
    power = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    later = power[:, _WINDOW : _WINDOW + _LAGS] - power[:, :_LAGS]
    difference = np.maximum(later[:, :1] + later - 2 * correlation, 0.0)
    difference[:, 0] = 0.0
    means = np.cumsum(difference, axis=1)[:, 1:] / np.arange(1, _LAGS)
    normalized = np.ones_like(difference)
    np.divide(difference[:, 1:], means, out=normalized[:, 1:], where=means > 1e-12)
    return normalized


def _pitch_hz(row: npt.NDArray[np.float64]) -> float | None:
    """The first lag at which the wave nearly repeats, else the best one; None if there is none."""
    shortest = _PITCH_RATE // _HIGHEST_HZ
    below = np.flatnonzero(row[shortest:] < _PERIODIC)
    lag = shortest + int(below[0] if len(below) else np.argmin(row[shortest:]))
    while lag + 1 < _LAGS and row[lag + 1] < row[lag]:
        lag += 1
    if row[lag] > _VOICED or lag + 1 >= _LAGS:
        return None
    # The parabola through three lags has its lowest point between them.
    before, here, after = row[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    shift = (before - after) / (2 * bend) if bend > 0 else 0.0
    return float(_PITCH_RATE / (lag + shift))


def _median(pitches: npt.NDArray[np.float64]) -> float | None:
    return float(np.median(pitches)) if len(pitches) >= _FEWEST_VOICED else None


def _decibels(power: float) -> float:
    return float(10 * np.log10(power + 1e-12))


def _ms(samples: int) -> int:
    return samples * 1000 // _RATE
