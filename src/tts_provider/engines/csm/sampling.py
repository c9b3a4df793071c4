"""Temperature, top-k, and a random stream for each row, so that company changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# csm.md: what the reference samples with.
DEFAULT_TEMPERATURE = 0.9
DEFAULT_TOP_K = 50


@dataclass
class Sampler:
    """One row's sampling: a seed gives the same draws whoever else is in the batch."""

    seed: int | Sequence[int]
    temperature: float = DEFAULT_TEMPERATURE
    top_k: int = DEFAULT_TOP_K
    _random: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed)))

    def sample(self, logits: np.ndarray) -> int:
        """Draw one code from `logits`, (codes,). One random number is used in any case."""
        draw = self._random.random()
        if self.temperature == 0:
            return int(logits.argmax())
        k = min(self.top_k, len(logits))
        best = np.argpartition(logits, -k)[-k:]
        best = best[np.lexsort((best, -logits[best]))]  # a fixed order, whatever partition did
        scaled = logits[best].astype(np.float64) / self.temperature
        weights = np.exp(scaled - scaled[0])
        chosen = int(np.searchsorted(np.cumsum(weights), draw * weights.sum(), side="right"))
        return int(best[min(chosen, k - 1)])
