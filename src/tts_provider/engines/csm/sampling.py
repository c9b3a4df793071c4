"""Temperature, top-k, and random numbers by code, so that neither company nor rounding moves them.

Every code of every codebook of every frame has a random number of its own, whether it is among the
candidates or not. Where two logits that are almost equal change places, the draw therefore stays.
A draw is Gumbel-max (Gumbel 1954; Maddison, Tarlow, Minka: A* Sampling, 2014): it takes the
candidate with the largest `(logit - largest logit) / temperature + noise`. Every backend computes
this definition, whose integers are exact:

    number = frame · 2³² + codebook · 2¹⁶ + code
    z = key + (number + 1) · 0x9E3779B97F4A7C15          all of it modulo 2⁶⁴
    z = (z ^ (z >> 30)) · 0xBF58476D1CE4E5B9             >> fills with zeros
    z = (z ^ (z >> 27)) · 0x94D049BB133111EB
    uniform = ((z >> 40) | 1) / 2²⁴                      exact in float32, never 0, never 1
    noise = -ln(-ln(uniform))

* This is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014),
  whose n-th number needs none before it. Its last step, `z ^ (z >> 31)`, changes only lower bits
  than the 24 that are used.
* `key` is the sampler's: numpy's `SeedSequence` of the seed, as 64 bits.
* `frame` counts from 0 what the sampler has drawn; a code and a codebook are below 2¹⁶.
* The candidates are the `top_k` codes with the largest logits; of equal logits those with the
  smaller codes come first. They also win where two scores are equal.
* A temperature of 0 takes the first candidate, and nothing random.
* The CPU computes logarithms and scores in float64, a GPU in float32: its last bits differ, and may
  decide between two scores that are equal but for those.

tests/engines/csm/test_sampling.py has values to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# csm.md: what the reference samples with.
DEFAULT_TEMPERATURE = 0.9
DEFAULT_TOP_K = 50

NO_CODE = -1
"""What is drawn from logits that are not finite; one that is minus infinity only is never drawn."""

STEP, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
FRAME_SHIFT, BOOK_SHIFT = 32, 16
# Made once: a draw is some twenty calls into numpy.
_STEP, _MIX_1, _MIX_2 = np.uint64(STEP), np.uint64(MIX_1), np.uint64(MIX_2)
_30, _27, _40, _1 = np.uint64(30), np.uint64(27), np.uint64(40), np.uint64(1)

_COLDEST = 1e-250
"""Two float32 that differ are further apart than any noise, and still finite, divided by this."""


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn; `depth_…` is for all codebooks but the first, None: as the first."""

    temperature: float = DEFAULT_TEMPERATURE
    top_k: int = DEFAULT_TOP_K
    depth_temperature: float | None = None
    depth_top_k: int | None = None


@dataclass
class Sampler:
    """One row's sampling: a seed gives the same draws whoever else is in the batch."""

    seed: int | Sequence[int]
    temperature: float = DEFAULT_TEMPERATURE
    top_k: int = DEFAULT_TOP_K
    depth_temperature: float | None = None
    depth_top_k: int | None = None
    """Of all codebooks but the first; None: as the first."""
    frames: int = 0
    """How many were drawn. A backend's step adds one: each frame has numbers of its own."""
    key: int = field(init=False)
    """The seed as 64 well-mixed bits, unsigned."""

    def __post_init__(self) -> None:
        self.key = int(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])

    def sample(self, logits: np.ndarray, book: int = 0) -> int:
        """The code of codebook `book` in the next frame, from `logits`, float32 (codes,)."""
        temperature, top_k = self.of_book(book)
        if temperature == 0:
            code = int(logits.argmax())  # the first NaN, where there is one
            return code if math.isfinite(logits[code]) else NO_CODE
        candidates = _best(logits, min(top_k, len(logits)))
        values = logits[candidates].astype(np.float64)
        best = values.max()  # NaN where there is one
        if not math.isfinite(best):
            return NO_CODE
        # The largest is subtracted first: divided by a small temperature it would be infinite.
        scores = (values - best) / max(temperature, _COLDEST)
        scores += gumbel(self.key, self.frames, book, candidates)
        return int(candidates[scores.argmax()])

    def of_book(self, book: int) -> tuple[float, int]:
        """Temperature and top-k of a codebook."""
        temperature, top_k = self.temperature, self.top_k
        if book > 0 and self.depth_temperature is not None:
            temperature = self.depth_temperature
        if book > 0 and self.depth_top_k is not None:
            top_k = self.depth_top_k
        return temperature, top_k


def gumbel(key: int, frame: int, book: int, codes: np.ndarray) -> np.ndarray:
    """The noise of `codes`, integers (n,), as float64 (n,)."""
    first = (frame << FRAME_SHIFT) + (book << BOOK_SHIFT) + 1
    z = codes.astype(np.uint64) * _STEP + np.uint64((key + first * STEP) % 2**64)
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    uniform = ((z >> _40) | _1) * 2.0**-24
    noise: np.ndarray = -np.log(-np.log(uniform))
    return noise


def _best(logits: np.ndarray, count: int) -> np.ndarray:
    """The codes of the `count` largest logits, ascending. A NaN is larger than all others."""
    last = np.partition(logits, -count)[-count]
    if math.isnan(last):
        return np.flatnonzero(np.isnan(logits))
    found = np.flatnonzero(~(logits < last))  # NaN is not smaller
    if (surplus := len(found) - count) > 0:  # of those as large as the last, the largest codes go
        found = np.delete(found, np.flatnonzero(logits[found] == last)[-surplus:])
    return found
