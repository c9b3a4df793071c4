"""A line of bounded length: how many may come in at once, and how many of them have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tts_provider.errors import OverCapacity


class Line:
    def __init__(
        self, places: int, full: str, *, turns: int | None = None, retry_after_ms: int = 1000
    ) -> None:
        """`full` is what one too many hears, with `{}` for how many there are; `turns` work at a
        time, by default all."""
        self._places, self._taken = places, 0
        self._full, self._retry_after_ms = full, retry_after_ms
        self.turn = asyncio.Semaphore(places if turns is None else turns)
        """To be held while one works."""

    @property
    def is_full(self) -> bool:
        return self._taken >= self._places

    def refusal(self) -> OverCapacity:
        return OverCapacity(self._full.format(self._places), retry_after_ms=self._retry_after_ms)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises `OverCapacity` where it is full."""
        if self.is_full:
            raise self.refusal()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
