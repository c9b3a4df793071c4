"""Admission control: a fixed number of streams, a bounded line before them, and how both end.

uvicorn's `limit_concurrency` does not count WebSockets, so requests are counted here. A request
holds a place from `admit` until the context ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tts_provider.config import Limits
from tts_provider.errors import Draining, OverCapacity, WireError
from tts_provider.waiting.line import Line

_FIRST_GUESS_S = 1.0
_AVERAGE_WEIGHT = 0.1
_RETRY_AFTER_MS = (250, 60_000)


class Admission:
    def __init__(self, limits: Limits) -> None:
        self._max_streams = limits.max_streams
        self._line = Line(
            limits.max_streams, self._full, waiting=limits.max_queued_requests, is_open=False
        )
        self._is_loaded = False
        self._refusal: WireError | None = None
        self._average_s = _FIRST_GUESS_S
        self._decided = asyncio.Event()
        self._started: list[float] = []  # when each stream began

    @property
    def active(self) -> int:
        """The number of requests that are being spoken."""
        return self._line.taken

    @property
    def queued(self) -> int:
        return self._line.waiting

    @property
    def is_open(self) -> bool:
        """Whether the model is loaded and requests are admitted."""
        return self._is_loaded and self._refusal is None

    @property
    def refusal(self) -> WireError | None:
        """Why no new request is admitted, or None."""
        return self._refusal

    def open(self) -> None:
        """The model is ready: admit the requests in line."""
        self._is_loaded = True
        self._decided.set()
        self._line.open()

    def drain(self) -> None:
        """Refuse new requests; those in line and those being spoken go on. Before the model is
        ready, nothing in line can be finished, so the line is refused too."""
        self._refusal = Draining("the server is shutting down; connect again")
        self._decided.set()
        self._line.call_back()
        if not self._is_loaded:
            self._line.end(self._refusal)

    def fail(self, problem: WireError) -> None:
        """The model cannot be loaded: refuse the line with this reason."""
        self._refusal = problem
        self._decided.set()
        self._line.end(problem)

    async def wait_open(self) -> None:
        """Wait until requests are admitted. Raises the reason if they never will be."""
        await self._decided.wait()
        if self._refusal is not None:
            raise self._refusal

    async def wait_idle(self) -> None:
        """Wait until no request is being spoken or in line."""
        await self._line.wait_empty()

    @asynccontextmanager
    async def admit(self, *, begun: bool = False, early: bool = False) -> AsyncIterator[None]:
        """A place to speak, first come first served. An `early` request does not wait for the
        model.

        Raises `OverCapacity` if the line is full, `Draining`, or the error with which the model
        failed to load. A request that has `begun` goes on while the server drains, and may wait
        even if the line is full.
        """
        if self._refusal is not None and not (begun and isinstance(self._refusal, Draining)):
            raise self._refusal
        await self._line.enter(early=early, beyond=begun)
        started = time.monotonic()
        self._started.append(started)
        try:
            yield
        finally:
            self._started.remove(started)
            spoken_s = time.monotonic() - started
            self._average_s += _AVERAGE_WEIGHT * (spoken_s - self._average_s)
            self._line.leave()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[asyncio.Event]:
        """A place to speak that no listener wants, for background work. Waits until there is one.
        The event is set when a listener wants the place, or the server drains; the caller then has
        to leave it at once. Raises the reason if no request is admitted."""
        await self.wait_open()
        async with self._line.borrowed() as wanted:
            if self._refusal is not None:
                raise self._refusal
            yield wanted

    def _full(self) -> OverCapacity:
        """The error for a full line. A client that returns before the present line is served waits
        as long or is refused again, so the wait is estimated from how long requests took lately and
        take now."""
        low, high = _RETRY_AFTER_MS
        now_s = time.monotonic()
        speaking_s = sum(now_s - started for started in self._started) / self._max_streams
        line_s = max(self._average_s, speaking_s) * (self.queued + 1) / self._max_streams
        return OverCapacity(
            f"all {self._max_streams} streams are busy and {self.queued} requests wait, "
            "the limit; try again later",
            retry_after_ms=int(min(max(1000 * line_s, low), high)),
        )
