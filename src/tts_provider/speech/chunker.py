"""Sound of any length → chunks that grow while they run ahead of the listener."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tts_provider.speech.engine import SAMPLE_RATE, Samples

CHUNKS_MS = (80, 160, 240, 320)
"""The first sound leaves at once, later messages are fewer; the last length stays. An engine that
makes its sound in batches loses no time where they are as long."""

_NOTHING: Samples = np.zeros(0, np.float32)
_SHORTEST_REST = SAMPLE_RATE * CHUNKS_MS[1] // 1000


class Chunker:
    """Cuts the sound of one timeline into chunks."""

    def __init__(self, speed: float = 1.0, lengths_ms: Sequence[int] = CHUNKS_MS) -> None:
        """`speed` is how many times faster it will be heard."""
        self._sizes = [round(SAMPLE_RATE * ms * speed) // 1000 for ms in lengths_ms]
        self._held: list[Samples] = []
        self._count = 0  # of samples held

    def push(self, samples: Samples) -> Iterator[Samples]:
        """The chunks that are complete. What stays is nothing, or no splinter."""
        self._held.append(samples)
        self._count += len(samples)
        size = self._sizes[0]
        while self._count == size or self._count >= size + min(size, _SHORTEST_REST):
            yield self._cut(size)
            size = self._sizes[0]

    def finish(self) -> Samples:
        """Return the rest of a passage; the next passage continues with chunks of that length."""
        return self._cut(self._count)

    def _cut(self, count: int) -> Samples:
        held = np.concatenate([_NOTHING, *self._held])
        self._held, self._count = [held[count:]], len(held) - count
        if count and len(self._sizes) > 1:
            del self._sizes[0]
        return held[:count]
