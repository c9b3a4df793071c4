"""Who may speak now: a fixed number of streams, a bounded line before them, and the ways it ends.

uvicorn's `limit_concurrency` does not count WebSockets, so requests are counted here. A request
holds a place from `admit` until the context ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tts_provider.config import Limits
from tts_provider.errors import Draining, OverCapacity, WireError

_FIRST_GUESS_S = 1.0
_AVERAGE_WEIGHT = 0.1
_RETRY_AFTER_MS = (250, 60_000)


class Admission:
    def __init__(self, limits: Limits) -> None:
        self._max_streams = limits.max_streams
        self._max_queued = limits.max_queued_requests
        # Who waits, and whether for a stream only and not for the model.
        self._line: deque[tuple[asyncio.Future[None], bool]] = deque()
        self._open = False
        self._refusal: WireError | None = None
        self._average_s = _FIRST_GUESS_S
        self._decided = asyncio.Event()
        self._started: list[float] = []  # when each that speaks began
        self._idle = asyncio.Event()
        self._idle.set()
        self.active = 0

    @property
    def queued(self) -> int:
        return len(self._line)

    @property
    def is_open(self) -> bool:
        """The model is loaded and requests are let in."""
        return self._open and self._refusal is None

    @property
    def refusal(self) -> WireError | None:
        """Why nothing new is let in, if so."""
        return self._refusal

    def open(self) -> None:
        """The model is ready: let in those who wait."""
        self._open = True
        self._decided.set()
        self._let_in()

    def drain(self) -> None:
        """Refuse what is new; what is in line and speaking goes on. Before the model is ready
        nothing in line can be finished, so it is refused too."""
        self._refusal = Draining("the server is shutting down; connect again")
        self._decided.set()
        if not self._open:
            self._refuse_line(self._refusal)

    def fail(self, problem: WireError) -> None:
        """The model cannot be loaded: everybody in line hears why."""
        self._refusal = problem
        self._decided.set()
        self._refuse_line(problem)

    async def wait_open(self) -> None:
        """Until requests are let in. Raises why they are not and will not be."""
        await self._decided.wait()
        if self._refusal is not None:
            raise self._refusal

    async def wait_idle(self) -> None:
        """Until nobody is speaking or in line."""
        await self._idle.wait()

    @asynccontextmanager
    async def admit(self, *, begun: bool = False, early: bool = False) -> AsyncIterator[None]:
        """A place to speak, first come first served. What is `early` does not wait for the model.

        Raises `OverCapacity` where the line is full, `Draining` or the load's failure. What has
        `begun` goes on while the server drains, and may wait where the line is full.
        """
        await self._enter(begun, early)
        started = time.monotonic()
        self._started.append(started)
        try:
            yield
        finally:
            self._started.remove(started)
            spoken_s = time.monotonic() - started
            self._average_s += _AVERAGE_WEIGHT * (spoken_s - self._average_s)
            self._leave()

    async def _enter(self, begun: bool, early: bool) -> None:
        if self._refusal is not None and not (begun and isinstance(self._refusal, Draining)):
            raise self._refusal
        is_next = not self._line if self._open else early
        if is_next and self.active < self._max_streams:
            self.active += 1
            self._idle.clear()
            return
        if len(self._line) >= self._max_queued and not begun:
            raise OverCapacity(
                f"all {self._max_streams} streams are busy and {len(self._line)} requests wait, "
                "the limit; try again later",
                retry_after_ms=self._retry_after_ms(),
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((place, early))
        self._idle.clear()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._leave()  # let in and cancelled in the same instant
            else:
                self._remove(place, early)
            raise

    def _leave(self) -> None:
        self.active -= 1
        self._let_in()

    def _remove(self, place: asyncio.Future[None], early: bool) -> None:
        if (place, early) in self._line:
            self._line.remove((place, early))
        self._update_idle()

    def _let_in(self) -> None:
        waiting, self._line = self._line, deque()
        for place, early in waiting:
            if not (self._open or early) or self.active >= self._max_streams:
                self._line.append((place, early))
            elif not place.done():
                self.active += 1
                place.set_result(None)
        self._update_idle()

    def _refuse_line(self, problem: WireError) -> None:
        for place, _ in self._line:
            if not place.done():
                place.set_exception(problem)
        self._line.clear()
        self._update_idle()

    def _update_idle(self) -> None:
        if self.active == 0 and not self._line:
            self._idle.set()

    def _retry_after_ms(self) -> int:
        """When who stands in line now will have been served, judged by how long requests took
        lately, and take now: before, who comes back waits as long or is refused again."""
        low, high = _RETRY_AFTER_MS
        now_s = time.monotonic()
        speaking_s = sum(now_s - started for started in self._started) / self._max_streams
        line_s = max(self._average_s, speaking_s) * (len(self._line) + 1) / self._max_streams
        return int(min(max(1000 * line_s, low), high))
