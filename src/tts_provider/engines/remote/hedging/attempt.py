"""One question on its way to one replica: a task that reads its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from tts_provider.engines.remote.addresses import Address
from tts_provider.engines.remote.frames import Frame
from tts_provider.engines.remote.hedging.continuation import Continuation


class Lost(Exception):
    """A request that a replica began is not finished by it."""

    def __init__(self, address: Address, what: str, *, in_line: bool = False) -> None:
        """`in_line`: others were heard from there meanwhile, so that this one only waited."""
        super().__init__(f"{address.url} {what}")
        self.address, self.in_line = address, in_line


@dataclass(frozen=True)
class Arrival:
    attempt: Attempt
    item: Frame | Exception | None
    """A frame, what went wrong, or None at the end."""
    at_s: float


class Attempt:
    def __init__(
        self,
        read: Callable[[Attempt], AsyncGenerator[Frame, None]],
        arrivals: asyncio.Queue[Arrival | None],
        continuation: Continuation | None = None,
    ) -> None:
        """`read` says who is asked, in `address`, and yields the answer."""
        self.address: Address | None = None
        self.asked_s = 0.0
        """When that address was asked."""
        self.continuation = continuation
        """Where it goes on with what somebody else began."""
        self.is_overdue = False
        """It has taken too long; it is lost if its address does not answer now."""
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._telling: asyncio.Task[None] | None = None
        self._reading = asyncio.create_task(self._read(read))

    def ask(self, address: Address) -> None:
        self.address, self.asked_s = address, self._loop.time()

    def lose(self, what: str) -> None:
        """Nothing comes any more: its address is silent."""
        if self._is_closed or self.address is None:
            return
        self._reading.cancel()
        self._telling = asyncio.create_task(self._put(Lost(self.address, what)))

    async def close(self) -> None:
        self._is_closed = True
        tasks = [self._reading, *([] if self._telling is None else [self._telling])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, read: Callable[[Attempt], AsyncGenerator[Frame, None]]) -> None:
        try:
            async with aclosing(read(self)) as frames:
                async for frame in frames:
                    await self._put(frame)
            await self._put(None)
        except Exception as error:
            await self._put(error)  # for who waits for frames; `close` takes it here
            raise

    async def _put(self, item: Frame | Exception | None) -> None:
        await self._arrivals.put(Arrival(self, item, self._loop.time()))
