"""So many have a place at a time, and so many more wait for one."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tts_provider.errors import OverCapacity, WireError


class Line:
    """First come, first served. A line that is closed gives no places, but to who is early."""

    def __init__(
        self,
        places: int,
        full: Callable[[], OverCapacity] | None = None,
        *,
        waiting: float = math.inf,
        is_open: bool = True,
    ) -> None:
        """Of `waiting`, one more hears `full`."""
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
        """What the next one hears, if it hears anything."""
        if self._full is None or self._has_place(early):
            return None
        recalled = sum(not wanted.is_set() for wanted in self._borrowers)
        if self.waiting < self._most_waiting + recalled:
            return None
        return self._full()

    @asynccontextmanager
    async def place(self, *, early: bool = False, beyond: bool = False) -> AsyncIterator[None]:
        """A place for a while. Who goes `beyond` waits where the line is full too.

        Raises `OverCapacity` where it is full, and what ends the line.
        """
        await self.enter(early=early, beyond=beyond)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, *, early: bool = False, beyond: bool = False) -> None:
        """As `place`, until `leave`."""
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
        """A place that nobody wants, for work that can wait: until there is one, and nobody in
        line. The event is set when somebody else wants it, or all are called back; then the place
        is to be left at once."""
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
        """Every place that is borrowed is wanted."""
        for wanted in self._borrowers:
            wanted.set()

    def leave(self) -> None:
        self.taken -= 1
        self._let_in()

    def open(self) -> None:
        """From now on it gives places."""
        self._is_open = True
        self._let_in()

    def end(self, problem: WireError) -> None:
        """Who waits hears why in vain."""
        waiting, self._waiting = self._waiting, deque()
        for turn, _ in waiting:
            if not turn.done():
                turn.set_exception(problem)
        self._tell_empty()

    async def wait_empty(self) -> None:
        """Until nobody has a place or waits for one."""
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
    """What one too many hears."""
    return lambda: OverCapacity(message, retry_after_ms=retry_after_ms)
