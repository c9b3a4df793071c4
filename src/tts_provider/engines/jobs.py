"""Carries the output of a computing thread to the event loop."""

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
    """Yield what `work` emits on a thread of `executor`, and raise its errors here. If closed
    early, call `cancel`, which must make `work` return."""
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
