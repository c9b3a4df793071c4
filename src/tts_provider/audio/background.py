"""Runs slow work beside the event loop, on a few threads that all streams share.

FFmpeg's encoders and filters release the interpreter while they work, so other threads run as fast
as alone. Each stream has one short piece with them at a time, so streams take turns, and a stream
that ends waits for at most one piece.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tts_provider.audio.pcm import Samples
from tts_provider.cpus import available_cpus

# At 24 kHz half a second, which takes LAME, the slowest, 3 ms.
_PIECE_SAMPLES = 12_000

_Result = TypeVar("_Result")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cpus(), thread_name_prefix="audio")


class Background:
    """One stream's place with the threads. Its work is done in order."""

    def __init__(self) -> None:
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run work on a thread. If cancelled, return at once; the work is finished and its result
        dropped."""
        assert self._running is None or self._running.done(), "one at a time"
        running = asyncio.get_running_loop().run_in_executor(_threads(), work)
        self._running = running
        return await asyncio.shield(running)

    def then(self, close: Callable[[], None]) -> None:
        """Call this when nothing is running any more: now, or soon."""
        if self._running is None or self._running.done():
            close()
        else:
            self._running.add_done_callback(lambda _: close())


def pieces(samples: Samples) -> Iterator[Samples]:
    """(n,) → short pieces, at least one."""
    for start in range(0, max(len(samples), 1), _PIECE_SAMPLES):
        yield samples[start : start + _PIECE_SAMPLES]
