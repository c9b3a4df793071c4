"""How long something usually takes, from the last times that it was seen. No clock."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

_KEPT = 128
_FEWEST = 16
_PERCENTILE = 0.95
_FACTOR = 1.5
"""Of the 95th percentile: one in twenty is above it without any fault."""


@dataclass(frozen=True)
class Range:
    """Within which patience stays, in seconds."""

    floor_s: float
    ceiling_s: float
    unknown_s: float
    """While too little was seen."""


class Latency:
    def __init__(self, allowed: Range) -> None:
        self.allowed = allowed
        self._last = deque[float]()
        self._ordered: list[float] = []

    def add(self, took_s: float) -> None:
        if len(self._last) == _KEPT:
            del self._ordered[bisect_left(self._ordered, self._last.popleft())]
        self._last.append(took_s)
        insort(self._ordered, took_s)

    @property
    def patience_s(self) -> float:
        """Longer than this it seldom takes."""
        allowed = self.allowed
        count = len(self._ordered)
        if count < _FEWEST:
            return allowed.unknown_s
        p95_s = self._ordered[math.ceil(_PERCENTILE * count) - 1]
        return min(max(_FACTOR * p95_s, allowed.floor_s), allowed.ceiling_s)
