"""Temperature, top-k, and a random stream for each row, so that company changes nothing."""

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
    _random: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed)))

    def sample(self, logits: np.ndarray, book: int = 0) -> int:
        """Draw a code of codebook `book` from `logits`, (codes,). One random number is used in any
        case."""
        draw = self._random.random()
        temperature, top_k = self.of_book(book)
        if temperature == 0:
            code = int(logits.argmax())  # the first NaN, where there is one
            return code if math.isfinite(logits[code]) else NO_CODE
        k = min(top_k, len(logits))
        best = np.argpartition(logits, -k)[-k:]
        best = best[np.lexsort((best, -logits[best]))]  # a fixed order, whatever partition did
        values = logits[best].astype(np.float64)  # NaN is among the best, and the last of them
        if not math.isfinite(values[0]) or math.isnan(values[-1]):
            return NO_CODE
        # The largest is subtracted first: divided by a small temperature it would be infinite.
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp((values - values[0]) / temperature)
        sums = np.cumsum(weights)
        chosen = int(np.searchsorted(sums, draw * sums[-1], side="right"))
        return int(best[min(chosen, int(np.count_nonzero(weights)) - 1)])

    def of_book(self, book: int) -> tuple[float, int]:
        """Temperature and top-k of a codebook."""
        temperature, top_k = self.temperature, self.top_k
        if book > 0 and self.depth_temperature is not None:
            temperature = self.depth_temperature
        if book > 0 and self.depth_top_k is not None:
            top_k = self.depth_top_k
        return temperature, top_k
