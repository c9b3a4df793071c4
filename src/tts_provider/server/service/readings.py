"""Reads long texts beside the event loop, on two threads that all requests share.

Reading is pure Python, so more threads would not read more, and the event loop would wait longer
for its turn.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tts_provider.waiting.line import Line, try_later

_THREADS = 2

_Read = TypeVar("_Read")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="reading")


class Readings:
    """The reading threads of one server."""

    def __init__(self, most_shown: int) -> None:
        """At most `most_shown` requests may wait at a time for a text that is only shown."""
        full = f"{most_shown} texts wait to be shown as words, the limit; try again later"
        self._shown = Line(1, try_later(full), waiting=most_shown - 1)

    async def read(self, reading: Callable[[], Iterable[_Read]]) -> list[_Read]:
        """Return all that it yields. If this is cancelled, its thread stops after the next item."""
        is_over = threading.Event()

        def collect() -> list[_Read]:
            read = list[_Read]()
            for one in reading():
                if is_over.is_set():
                    break
                read.append(one)
                time.sleep(0)  # the event loop need not wait for its turn
            return read

        try:
            return await asyncio.get_running_loop().run_in_executor(_threads(), collect)
        finally:
            is_over.set()

    async def show(self, reading: Callable[[], Iterable[_Read]]) -> list[_Read]:
        """The same for a text that is only shown: one at a time, so that speech has a thread.

        Raises `OverCapacity` if too many wait.
        """
        async with self._shown.place():
            return await self.read(reading)
