"""Somebody at a replica's address who sends what no replica does: raw bytes over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain, repeat

from engines.remote.running import ESPEAK, HEAD

MOST_BYTES = 64 * 1024 * 1024
"""What it sends at most of what never ends."""

Script = bytes | Iterable[bytes] | Callable[[], AsyncIterator[bytes]]
DESCRIBED = HEAD + ESPEAK.model_dump_json().encode()


class Hostile:
    """Answers every path with the same bytes each time."""

    def __init__(self, describe: Script, speak: Script) -> None:
        self.url = ""
        self.describe, self.speak = describe, speak
        self.heads: list[str] = []
        """Of the requests, as they came."""
        self.sent_bytes = 0
        """Of answers to passages."""
        self.described_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = re.search(r"(?i)content-length: (\d+)", head)
            if length is not None:
                await reader.readexactly(int(length.group(1)))
            is_question = head.split()[1] == "/describe"
            async for piece in _pieces(self.describe if is_question else self.speak):
                writer.write(piece)
                await writer.drain()
                if is_question:
                    self.described_bytes += len(piece)
                else:
                    self.sent_bytes += len(piece)
                if max(self.sent_bytes, self.described_bytes) > MOST_BYTES:
                    break
            writer.close()
            await writer.wait_closed()


async def _pieces(script: Script) -> AsyncIterator[bytes]:
    if isinstance(script, bytes):
        yield script
    elif callable(script):
        async for piece in script():
            yield piece
    else:
        for piece in script:
            yield piece


@contextlib.asynccontextmanager
async def hostile(
    speak: Script = b"", *, describe: Script = DESCRIBED, port: int = 0
) -> AsyncIterator[Hostile]:
    made = Hostile(describe, speak)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        # Python 3.11's streams log a handler that was cancelled as an error.
        with contextlib.suppress(asyncio.CancelledError):
            await made.serve(reader, writer)
        serving.discard(task)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


class Endless:
    """A beginning, and then the same again and again."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first, self._again = first, again

    def __iter__(self) -> Iterator[bytes]:
        return chain((self._first,), repeat(self._again))


def dribble(
    first: bytes, piece: bytes, every_s: float = 0.01
) -> Callable[[], AsyncIterator[bytes]]:
    """A beginning, and then a little now and then, for ever."""

    async def send() -> AsyncIterator[bytes]:
        yield first
        while True:
            await asyncio.sleep(0.01)
            yield piece

    return send


def head(status: str = "200 OK", *fields: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Connection: close", *fields, "", "")
    return "\r\n".join(lines).encode("latin-1")
