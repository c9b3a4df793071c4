"""Sound of any length → chunks that grow while they run ahead of the listener."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tts_provider.speech.engine import SAMPLE_RATE, Samples

CHUNKS_MS = (80, 160, 240, 320)
"""The first sound leaves at once, later messages are fewer; the last length stays. An engine that
makes its sound in batches loses no time where they are as long."""

_SHORTEST_REST = SAMPLE_RATE * CHUNKS_MS[1] // 1000


class Chunker:
    """Cuts one timeline."""

    def __init__(self) -> None:
        self._held: list[Samples] = []
        self._count = 0  # of samples held
        self._given = 0  # chunks

    def push(self, samples: Samples) -> Iterator[Samples]:
        """The chunks that are complete. What stays is nothing, or no splinter."""
        self._hold(samples)
        while self._count == self._size or self._count >= self._size + _SHORTEST_REST:
            yield self._cut(self._size)

    def finish(self) -> Iterator[Samples]:
        """What is left of a passage; the next one goes on with chunks as long."""
        if self._count:
            yield self._cut(self._count)

    @property
    def _size(self) -> int:
        return SAMPLE_RATE * CHUNKS_MS[min(self._given, len(CHUNKS_MS) - 1)] // 1000

    def _hold(self, samples: Samples) -> None:
        self._held.append(samples)
        self._count += len(samples)

    def _cut(self, count: int) -> Samples:
        held = np.concatenate(self._held)
        self._held, self._count, self._given = [], 0, self._given + 1
        self._hold(held[count:])
        return held[:count]
