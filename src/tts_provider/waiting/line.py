"""A queue: a limited number of places, and a limited number of waiters."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tts_provider.errors import OverCapacity, WireError


class Line:
    """First come, first served. A closed line gives places only to those who are `early`."""

    def __init__(
        self,
        places: int,
        full: Callable[[], OverCapacity] | None = None,
        *,
        waiting: float = math.inf,
        is_open: bool = True,
    ) -> None:
        """If `waiting` wait already, the next one is refused with `full`."""
        assert full is not None or waiting == math.inf, "somebody may be told that it is full"
        self._places, self._most_waiting = places, waiting
        self._full = full
        self._is_open = is_open
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()  # and whether it is early
        self._borrowers: list[asyncio.Event] = []
        self._hoping: deque[asyncio.Future[None]] = deque()  # for a place to borrow
        self.taken = 0
        """How many have a place."""
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def refusal(self, *, early: bool = False) -> OverCapacity | None:
        """The error that the next one would get, or None."""
        if self._full is None or self._has_place(early):
            return None
        recalled = sum(not wanted.is_set() for wanted in self._borrowers)
        if self.waiting < self._most_waiting + recalled:
            return None
        return self._full()

    @asynccontextmanager
    async def place(self, *, early: bool = False, beyond: bool = False) -> AsyncIterator[None]:
        """Hold a place for a while. With `beyond`, wait even if the line is full.

        Raises `OverCapacity` if the line is full, and the error that ends the line.
        """
        await self.enter(early=early, beyond=beyond)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, *, early: bool = False, beyond: bool = False) -> None:
        """Take a place as `place` does, and keep it until `leave`."""
        if self._has_place(early):
            self.taken += 1
            self._empty.clear()
            return
        if not beyond and (problem := self.refusal(early=early)) is not None:
            raise problem
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, early))
        for wanted in self._borrowers:
            if not wanted.is_set():
                wanted.set()
                break
        self._empty.clear()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # let in and cancelled in the same instant
            elif (turn, early) in self._waiting:
                self._waiting.remove((turn, early))
                self._tell_empty()
            raise

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[asyncio.Event]:
        """Hold a spare place for work that can wait: wait until a place is free and nobody is in
        line. The event is set when somebody else needs the place or all are called back; leave it
        at once then."""
        if self._is_open and not self._waiting and self.taken < self._places:
            self.taken += 1
            self._empty.clear()
        else:
            turn = asyncio.get_running_loop().create_future()
            self._hoping.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()  # let in and cancelled in the same instant
                else:
                    self._hoping.remove(turn)
                raise
        wanted = asyncio.Event()
        self._borrowers.append(wanted)
        try:
            yield wanted
        finally:
            self._borrowers.remove(wanted)
            self.leave()

    def call_back(self) -> None:
        """Ask for every borrowed place back."""
        for wanted in self._borrowers:
            wanted.set()

    def leave(self) -> None:
        self.taken -= 1
        self._let_in()

    def open(self) -> None:
        """Give places from now on."""
        self._is_open = True
        self._let_in()

    def end(self, problem: WireError) -> None:
        """Refuse everybody who waits, with this error."""
        waiting, self._waiting = self._waiting, deque()
        for turn, _ in waiting:
            if not turn.done():
                turn.set_exception(problem)
        self._tell_empty()

    async def wait_empty(self) -> None:
        """Wait until nobody has a place or waits for one."""
        await self._empty.wait()

    def _has_place(self, early: bool) -> bool:
        is_next = not self._waiting if self._is_open else early
        return is_next and self.taken < self._places

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for turn, early in waiting:
            if not (self._is_open or early) or self.taken >= self._places:
                self._waiting.append((turn, early))
            elif not turn.done():
                self.taken += 1
                turn.set_result(None)
        while self._hoping and self._is_open and not self._waiting and self.taken < self._places:
            hoping = self._hoping.popleft()
            if not hoping.done():
                self.taken += 1
                self._empty.clear()
                hoping.set_result(None)
        self._tell_empty()

    def _tell_empty(self) -> None:
        if not self.taken and not self._waiting:
            self._empty.set()


def try_later(message: str, retry_after_ms: int = 1000) -> Callable[[], OverCapacity]:
    """Make the error for those who find the line full."""
    return lambda: OverCapacity(message, retry_after_ms=retry_after_ms)
