"""Finds whether audio has the watermark, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples
from tts_provider.audio.watermark import spectrum
from tts_provider.audio.watermark.network import Decoder
from tts_provider.audio.watermark.spectrum import HOP, SAMPLE_RATE, WINDOW, Levels

THRESHOLD = 0.6
"""A stretch whose score is at least this has the mark; 0 and 1 are the network's own answers."""

# Looked at as if it had been played so much too fast or too slow: the network finds its mark at
# 1 % more or less too.
_TEMPOS = (1.0, 1.02, 0.98, 1.04, 0.96, 1.06, 0.94)
# As if it had been played so much faster still, which moves every mark away from where the network
# looks. What it finds there too, in a steady tone or a chord, is none: it knows only speech.
_ELSEWHERE = (0.8, 0.9, 0.94, 1.06, 1.1)
_FRAMES_A_SECOND = SAMPLE_RATE // HOP
_STRETCH_FRAMES = 2 * _FRAMES_A_SECOND
_STEP_FRAMES = _FRAMES_A_SECOND // 4
_LEAST_FRAMES = _FRAMES_A_SECOND // 4  # with sound in them, else nothing can be said
# Quieter than the loudest by so much, a frame is silence, of which a codec keeps no mark.
_SILENCE_DB = 40.0
_PART_SAMPLES = 60 * SAMPLE_RATE  # looked at together, which takes 50 MB
_BATCH_FRAMES = 512


@dataclass(frozen=True)
class Stretch:
    """Marked audio, from `start` to before `end`, in samples."""

    start: int
    end: int


@dataclass(frozen=True)
class Detection:
    score: float
    """Of the two seconds where the mark is clearest, 0 to 1."""
    stretches: tuple[Stretch, ...]
    """Where it is, in order; to a quarter of a second."""

    @property
    def is_marked(self) -> bool:
        return bool(self.stretches)


def detect(decoder: Decoder, samples: Samples) -> Detection:
    """Find marked stretches in (n,) at 24 kHz; takes a tenth of the duration on one core."""
    best, stretches = 0.0, list[Stretch]()
    step = _PART_SAMPLES - _STRETCH_FRAMES * HOP
    for start in range(0, max(len(samples) - _STRETCH_FRAMES * HOP, 1), step):
        score, found = _detect_part(decoder, samples[start : start + _PART_SAMPLES])
        best = max(best, score)
        stretches += (Stretch(start + each.start, start + each.end) for each in found)
    return Detection(best, tuple(_joined(stretches)))


def _detect_part(decoder: Decoder, samples: Samples) -> tuple[float, list[Stretch]]:
    """The stretches at the first tempo at which there is a mark."""
    best = 0.0
    for tempo in _TEMPOS:
        begins, scores = _scores(decoder, samples, tempo)
        if (scores >= THRESHOLD).any():
            for elsewhere in _ELSEWHERE:
                scores = scores - _nearest(begins, *_scores(decoder, samples, tempo * elsewhere))
        best = max(best, float(scores.max()))
        length = round(_STRETCH_FRAMES * HOP / tempo)
        found = [
            Stretch(int(begin), min(int(begin) + length, len(samples)))
            for begin in begins[scores >= THRESHOLD]
        ]
        if found:
            return min(best, 1.0), found
    return best, []


def _scores(
    decoder: Decoder, samples: Samples, tempo: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """At which samples stretches begin, at least one, and their scores, from 0; of what was
    played `tempo` times too fast."""
    levels, audible = _levels(samples, tempo)
    frames = levels.shape[1]
    length = min(_STRETCH_FRAMES, frames)
    starts = np.unique(np.append(np.arange(0, frames - length, _STEP_FRAMES), frames - length))
    means = []
    for answer in decoder.look(levels):
        size = answer.shape[1]
        heard = audible[np.arange(size) * frames // size]
        edges = starts * size // frames, (starts + length) * size // frames
        count = _sum(heard.astype(np.float64), *edges)
        means.append(_sum(answer * heard, *edges) / np.maximum(count, 1))
    weights, answers = np.stack(means, axis=1)  # each (speeds, starts)
    weights = np.exp(weights - weights.max(axis=0))
    scores = (weights * answers).sum(axis=0) / weights.sum(axis=0)
    enough = _sum(audible.astype(np.float64), starts, starts + length) >= _LEAST_FRAMES
    places = np.round(starts * HOP / tempo).astype(np.int64)
    return places, np.where(enough, np.maximum(scores, 0.0), 0.0)


def _nearest(
    begins: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """For each of `begins` the score of the one of `others` that begins nearest to it."""
    nearest: npt.NDArray[np.float64]
    nearest = scores[np.abs(begins[:, np.newaxis] - others).argmin(axis=1)]
    return nearest


def _levels(samples: Samples, tempo: float) -> tuple[Levels, npt.NDArray[np.bool_]]:
    """(BINS, T) of what was played `tempo` times too fast, and which of them are no silence."""
    size = round(WINDOW / tempo)
    padded = np.concatenate([samples, np.zeros(max(0, size - len(samples)), np.float32)])
    places = np.arange(0, len(padded) - size + 1, HOP / tempo).astype(np.int64)
    hann, frames = spectrum.window(size), np.lib.stride_tricks.sliding_window_view(padded, size)
    spectra = np.concatenate(
        [
            spectrum.spectra(frames[places[at : at + _BATCH_FRAMES]] * hann)
            for at in range(0, len(places), _BATCH_FRAMES)
        ],
        axis=1,
    )
    power = np.square(np.abs(spectra)).sum(axis=0)
    audible = power > power.max() * 10 ** (-_SILENCE_DB / 10)
    return spectrum.levels(spectra), audible


def _sum(
    values: npt.NDArray[np.floating],
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """(…, T) → (…, stretches)."""
    total: npt.NDArray[np.float64] = np.cumsum(values, axis=-1, dtype=np.float64)
    total = np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)
    sums: npt.NDArray[np.float64] = total[..., ends] - total[..., begins]
    return sums


def _joined(stretches: list[Stretch]) -> Iterator[Stretch]:
    """Those that touch are one."""
    current: Stretch | None = None
    for each in stretches:
        if current is None:
            current = each
        elif each.start <= current.end:
            current = Stretch(current.start, max(current.end, each.end))
        else:
            yield current
            current = each
    if current is not None:
        yield current
