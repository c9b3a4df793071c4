"""Finds the words of one recording in another that says the same: dynamic time warping.

Sakoe and Chiba, https://doi.org/10.1109/TASSP.1978.1163055: of all ways to go through both
recordings from beginning to end, the one on which frames side by side are most alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tts_provider.speech.engine import SAMPLE_RATE, Samples
from tts_provider.speech.timing.mfcc import Floats, measure_mfcc

Span = tuple[int, int]
"""From where to before where, in samples."""

_HOP = SAMPLE_RATE // 100
# Of frames side by side; each takes a byte and 40 ns. Two times 40 s have as many at 10 ms a frame.
_MOST_PAIRS = 16_000_000
# The cost of standing still in one recording; frames of one sound are 0.7 to 0.9 apart.
_STAY = 0.1
# A shorter silence belongs to a consonant, a longer one is a pause.
_PAUSE_FRAMES = 6
_BOTH, _SPOKEN, _KNOWN = range(3)  # which of both goes on


def find_spans(
    samples: Samples, reference: Samples, spans: Sequence[Span], *, is_cut: bool = False
) -> list[Span]:
    """For each of `spans` of `reference`, where the same is said in `samples`; both are (n,) at
    24 kHz and of any length. Where `samples` end before all is said, `is_cut`, there are as many as
    are said.

    `spans` are in order and do not overlap. Neither do those that are found, which lie within what
    is heard, where anything is. Takes 16 MB at most; where both are longer than 40 s, what is found
    is less exact instead.
    """
    if not spans:
        return []
    hop = _hop(len(samples), len(reference))
    spoken, known = measure_mfcc(samples, hop), measure_mfcc(reference, hop)
    first, last = _walk(spoken, known, is_cut)
    is_loud = _loud(samples, hop)
    loud = np.flatnonzero(is_loud)
    lowest, highest = (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(is_loud))
    found, before = list[Span](), lowest
    for start, end in spans:
        begin = min(round(start / hop), len(known) - 1)
        if begin >= len(first):
            break
        finish = min(max(begin, round(end / hop) - 1), len(first) - 1)
        span = _without_pauses(is_loud, int(last[begin]), int(first[finish]) + 1)
        left, right = (min(max(frame, before), highest) for frame in span)
        before = max(left, right)
        found.append((min(left * hop, len(samples)), min(before * hop, len(samples))))
    return found


def _hop(*lengths: int) -> int:
    """The number of samples a frame."""
    pairs = 1.0
    for length in lengths:
        pairs *= max(1.0, length / _HOP)
    return int(_HOP * max(1.0, pairs / _MOST_PAIRS) ** 0.5)


def _walk(
    spoken: Floats, known: Floats, is_cut: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(frames, n) and (m, n) → for each of the m, or of those that are reached, the first and the
    last frame beside it."""
    went = np.empty((len(spoken), len(known)), np.uint8)
    columns = np.ascontiguousarray(known.T)
    sizes = (known**2).sum(axis=1)
    costs = np.full(len(known), np.inf)  # of the best way to each frame of `known`, (m,)
    for at, frame in enumerate(spoken):
        # As fast as a matrix multiplication, for which OpenBLAS would use every core.
        alike = np.einsum("km,k->m", columns, frame)
        squares = np.maximum(sizes + (frame**2).sum() - 2 * alike, 0)
        apart = np.sqrt(squares / len(frame)).astype(np.float64)
        waited = costs + _STAY
        stepped = np.concatenate([[0.0 if at == 0 else np.inf], costs[:-1]])
        went[at] = np.where(stepped <= waited, _BOTH, _SPOKEN)
        arrived = np.minimum(stepped, waited) + apart
        # From there any number of frames on in `known`: the least that was, less what lies between.
        passed = np.cumsum(apart + _STAY)
        lead = arrived - passed
        least = np.minimum.accumulate(lead)
        went[at][least < lead] = _KNOWN
        costs = least + passed
    if is_cut:  # the end with which it is most alike, by the length of both
        lengths = len(spoken) + np.arange(1, len(known) + 1)
        went = went[:, : int(np.argmin(costs / lengths)) + 1]
    return _trace(went)


def _trace(
    went: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Go back from the end to the beginning."""
    here, there = went.shape[0] - 1, went.shape[1] - 1
    first, last = np.zeros(there + 1, np.int64), np.zeros(there + 1, np.int64)
    first[there] = last[there] = here
    while here or there:
        step = went[here, there]
        if step != _KNOWN:
            here -= 1
        if step != _SPOKEN:
            there -= 1
            last[there] = here
        first[there] = here
    return first, last


def _loud(samples: Samples, hop: int) -> npt.NDArray[np.bool_]:
    """Which frames are heard, (frames,)."""
    count = max(1, -(-len(samples) // hop))
    padded = np.zeros(count * hop, np.float32)
    padded[: len(samples)] = samples
    levels = 10 * np.log10((padded.reshape(count, hop) ** 2).mean(axis=1) + 1e-10)
    floor, top = np.percentile(levels, (5, 95))
    loud: npt.NDArray[np.bool_] = levels >= max(floor + 6, top - 40)
    return loud


def _without_pauses(is_loud: npt.NDArray[np.bool_], start: int, end: int) -> Span:
    """A word's frames without the silence at its ends; as they are where it is nothing else."""
    loud = start + np.flatnonzero(is_loud[start:end])
    if len(loud):
        start = int(loud[0]) if loud[0] - start >= _PAUSE_FRAMES else start
        end = int(loud[-1]) + 1 if end - 1 - loud[-1] >= _PAUSE_FRAMES else end
    return start, end
