"""Work for a client that ends when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

_Result = TypeVar("_Result")


class Left(Exception):
    """The client has left."""


async def until_left(work: Coroutine[Any, Any, _Result], receive: Receive) -> _Result:
    """Return the result of the work for an HTTP request whose body was read. Raises `Left` if the
    client leaves first, which cancels the work, or if the work gives the client up and cancels
    itself."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(wait_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() or working.cancelled():
            raise Left
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def wait_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
