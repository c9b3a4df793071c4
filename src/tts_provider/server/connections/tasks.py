"""The owner of a connection's tasks: they end with the connection, and a failure in one of them is
raised."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocketDisconnect


class Tasks:
    """An owner: leaving its `async with` ends what is left, and waits for it.

    anyio's task groups cancel again wherever an ended task waits, so an engine's iterator could not
    be closed in peace; these cancel once.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """The number of tasks that have not ended, or that failed."""
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Keep a task that failed, so that its error is raised when the owner ends."""
        if task.cancelled() or task.exception() is None:
            self._running.discard(task)

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """End these tasks. Raises the error of one that failed, unless its client left."""
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running.difference_update(tasks)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop(*self._running)
