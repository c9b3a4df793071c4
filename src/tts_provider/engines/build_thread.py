"""A long computation beside the event loop that a process can end without.

`asyncio.to_thread` would hold the process up: `asyncio.run` waits for its threads, and a model
takes minutes to prepare.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class BuildThread(Generic[Made]):
    def __init__(self, make: Callable[[], Made]) -> None:
        """Starts `make` at once, on a daemon thread."""
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[Made] = loop.create_future()
        # Nobody may be there any more to hear how it ended.
        self._made.add_done_callback(lambda made: made.cancelled() or made.exception())

        def run() -> None:
            made: Made | None = None
            problem: BaseException | None = None
            try:
                made = make()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                problem = error

            def end() -> None:
                if self._made.cancelled():
                    return
                if problem is not None:
                    self._made.set_exception(problem)
                else:
                    self._made.set_result(made)  # type: ignore[arg-type]

            with contextlib.suppress(RuntimeError):  # the loop ended before
                loop.call_soon_threadsafe(end)

        threading.Thread(target=run, name="csm-build", daemon=True).start()

    async def result(self) -> Made:
        """What was made. Raises what `make` raised; whoever waits may be cancelled."""
        return await asyncio.shield(self._made)

    async def wait(self, timeout_s: float) -> None:
        """Until it has ended, or time is up."""
        await asyncio.wait({self._made}, timeout=timeout_s)
