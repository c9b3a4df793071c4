"""From a thread that computes to the event loop that listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import TypeVar

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
