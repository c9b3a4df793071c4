"""SIGTERM while something does not end by itself: when is the process gone?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from target import Target, running
from uploads import enrol_again_and_again
from websockets.asyncio.client import connect
from witness import Row

_DRAIN_S = 2.0
_UPLOAD = (
    b"POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


async def nothing(_port: int, _until: asyncio.Event) -> None:
    pass


async def upload_that_does_not_come(port: int, until: asyncio.Event) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_UPLOAD)
    await until.wait()
    writer.close()


async def uploads_that_are_hard(port: int, until: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        await asyncio.to_thread(enrol_again_and_again, port, 2.0)
    await until.wait()


async def half_a_sentence(port: int, until: asyncio.Event) -> None:
    async with connect(f"ws://127.0.0.1:{port}/v1/stream") as socket:
        text = {"type": "input_text.append", "context_id": "c", "text": "Half a"}
        await socket.send(json.dumps(text))
        await until.wait()


async def listener_that_stalls(port: int, until: asyncio.Event) -> None:
    async with connect(f"ws://127.0.0.1:{port}/", max_queue=1) as socket:
        await socket.send(json.dumps({"text": "Hello there. " * 1000, "stream": True}))
        socket.transport.pause_reading()
        await until.wait()
        socket.transport.abort()


Hold = Callable[[int, asyncio.Event], Awaitable[None]]
# And how long the process may have: the drain and 2 s, or next to nothing where nobody is heard.
HOLDS: dict[str, tuple[Hold, float]] = {
    "SIGTERM, nothing going on": (nothing, 2.0),
    "SIGTERM, an upload that does not come": (upload_that_does_not_come, _DRAIN_S + 2),
    "SIGTERM, uploads that are hard to decode": (uploads_that_are_hard, _DRAIN_S + 2),
    "SIGTERM, a session with half a sentence": (half_a_sentence, 2.0),
    "SIGTERM, a listener that stalls": (listener_that_stalls, _DRAIN_S + 2),
}


async def measure() -> AsyncIterator[Row]:
    for name, (hold, allowed_s) in HOLDS.items():
        with running("espeak", drain_timeout_s=str(_DRAIN_S)) as target:
            took_s = await end_while(hold, target)
        yield Row(
            f"{name} (drain {_DRAIN_S:g} s)",
            f"ended after {took_s:.1f} s",
            f"at most {allowed_s:g} s",
            took_s <= allowed_s,
        )


async def end_while(hold: Hold, target: Target) -> float:
    ended = asyncio.Event()
    holding = asyncio.ensure_future(hold(target.port, ended))
    await asyncio.sleep(1.0)
    began = time.monotonic()
    target.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(target.process.wait, 60)
    took_s = time.monotonic() - began
    ended.set()
    with contextlib.suppress(Exception):
        await holding
    return took_s
