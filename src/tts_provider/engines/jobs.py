"""From a thread that computes to the event loop that listens, and into chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

from tts_provider.speech.engine import SAMPLE_RATE, AudioChunk, Samples, WordTime

CHUNK_SAMPLES = SAMPLE_RATE * 80 // 1000
"""Audio leaves in pieces of 80 ms, the frame of CSM's codec."""

_NOTHING: Samples = np.zeros(0, np.float32)

_Item = TypeVar("_Item")


async def run_job(
    executor: Executor,
    work: Callable[[Callable[[_Item], None]], None],
    cancel: Callable[[], None],
) -> AsyncGenerator[_Item, None]:
    """What `work` emits on a thread of `executor`, whose errors are raised here. Closed early, it
    calls `cancel`, which must make `work` return."""
    loop = asyncio.get_running_loop()
    # Bounded by what one job can make.
    arrived: asyncio.Queue[_Item | None] = asyncio.Queue()

    def emit(item: _Item) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    job = loop.run_in_executor(executor, work, emit)
    job.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (item := await arrived.get()) is not None:
            yield item
        await job
    finally:
        cancel()
        job.cancel()


class Chunks:
    """Cuts a timeline into chunks; each has the words that end in it."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)
        self._words: list[WordTime] = []
        self.position = 0
        """Where the next chunk begins."""

    @property
    def end(self) -> int:
        """Where the timeline ends so far."""
        return self.position + len(self._held)

    def push(self, samples: Samples, words: Sequence[WordTime] = ()) -> list[AudioChunk]:
        """The chunks that are complete. What stays is never less than one, so that the last is not
        a splinter."""
        self._held = np.concatenate([self._held, samples])
        self._words += words
        chunks = []
        while len(self._held) >= 2 * CHUNK_SAMPLES:
            chunks.append(self._cut(CHUNK_SAMPLES))
        return chunks

    def finish(
        self, samples: Samples = _NOTHING, words: Sequence[WordTime] = ()
    ) -> list[AudioChunk]:
        """The last chunk, with these."""
        self._held = np.concatenate([self._held, samples])
        self._words += words
        return [self._cut(len(self._held))] if len(self._held) else []

    def _cut(self, count: int) -> AudioChunk:
        end = self.position + count
        ended = tuple(word for word in self._words if word.end <= end)
        self._words = [word for word in self._words if word.end > end]
        chunk = AudioChunk(self._held[:count], self.position, ended)
        self._held, self.position = self._held[count:], end
        return chunk
