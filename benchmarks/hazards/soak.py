"""Clients that come, ask and vanish: does the server keep anything of them? And would we see it?"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from target import Target, running
from websockets.asyncio.client import connect
from witness import Row

_CLIENTS = 400
_AT_ONCE = 20
_MOST_MIB = 8.0
_ASK = (
    ("", {"text": "Hello.", "stream": True}),
    ("v1/stream", {"type": "input_text.append", "context_id": "c", "text": "Hello. "}),
)


async def measure() -> AsyncIterator[Row]:
    what = f"{_CLIENTS} clients that ask and vanish"
    with running() as target:
        more_mib = await growth_mib(target)
    yield Row(what, f"{more_mib:+.1f} MiB", f"at most {_MOST_MIB:g} MiB", more_mib <= _MOST_MIB)
    with running("leaking") as target:
        leaked_mib = await growth_mib(target)
    found = leaked_mib > _MOST_MIB
    yield Row(
        f"{what}, of a server that keeps 128 KiB of each (planted)",
        f"{leaked_mib:+.1f} MiB: {'found' if found else 'not found'}",
        f"more than {_MOST_MIB:g} MiB",
        found,
    )


async def growth_mib(target: Target) -> float:
    await vanish(target, 2 * _CLIENTS)  # what is kept once is kept then
    before_mib = target.forget_peak()
    await vanish(target, _CLIENTS)
    return target.forget_peak() - before_mib


async def vanish(target: Target, clients: int) -> None:
    for start in range(0, clients, _AT_ONCE):
        await asyncio.gather(
            *(ask(target.port, number) for number in range(start, start + _AT_ONCE))
        )


async def ask(port: int, number: int) -> None:
    path, message = _ASK[number % len(_ASK)]
    with contextlib.suppress(OSError):
        async with connect(f"ws://127.0.0.1:{port}/{path}", compression=None) as socket:
            await socket.send(json.dumps(message))
            while not isinstance(await socket.recv(), bytes) and not path:
                pass
            await asyncio.sleep(0.2)
            socket.transport.abort()
