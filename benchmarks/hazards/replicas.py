"""A gateway whose replica is somebody else: what its listeners hear of it, who are spoken to from
elsewhere on the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from floods import compare
from target import running
from websockets.asyncio.client import connect
from witness import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

_CLIENTS = 8
_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
_HEAD = _OK + b"\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<BI", kind, len(payload)) + payload


_WORDS = json.dumps([[0, 0, 0, 0, False]] * 45_000).encode()
# What is sent first, and then again and again: to a passage of twelve characters.
SPEECH = {
    "audio without end": (_HEAD, frame(1, bytes(7680))),
    "frames without samples": (_HEAD, frame(1, b"") * 2000),
    "signs of life": (_HEAD, frame(6, b"") * 2000),
    "words, a MiB in a frame": (_HEAD, frame(2, _WORDS)),
    "10 000 brackets as an error": (_HEAD + frame(4, b"[" * 10_000), b""),
    "chunks of a byte": (_CHUNKED, b"1\r\n\x06\r\n" + b"1\r\n\0\r\n" * 4),
    "`100 Continue`": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}
DESCRIPTIONS = {
    "spaces": (_HEAD, b" " * 65536),
    "gzip of 100 MB": (_OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10**8)), b""),
}


async def _serve(replica_port: int, describe: tuple[bytes, bytes], speak: tuple[bytes, bytes]):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            first, again = describe if b"/describe" in head else speak
            writer.write(first)
            while again and not writer.is_closing():
                writer.write(again)
                await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", replica_port)


async def _ask(port: int, until: float) -> None:
    """For a passage of the replica's voice, again and again."""
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            async with connect(f"ws://127.0.0.1:{port}/", max_size=None) as ws:
                while time.monotonic() < until:
                    await ws.send(json.dumps({"text": "Good morning", "speaker": 1}))
                    await ws.recv()
                    await asyncio.sleep(0.1)  # what is measured is the replica, not a flood
        await asyncio.sleep(0.1)


def attack(
    replica_port: int,
    describe: tuple[bytes, bytes],
    speak: tuple[bytes, bytes],
    port: int,
    seconds: float,
) -> None:
    async def run() -> None:
        until = time.monotonic() + seconds
        server = await _serve(replica_port, describe, speak)
        async with server:
            await asyncio.gather(*(_ask(port, until) for _ in range(_CLIENTS)))

    asyncio.run(run())


def _described() -> tuple[bytes, bytes]:
    from engines.remote.running import ESPEAK

    return _HEAD + ESPEAK.model_dump_json().encode(), b""


async def measure() -> AsyncIterator[Row]:
    good, nothing = _described(), (b"", b"")
    attacks = {
        **{f"a replica that answers with {name}": (good, sent) for name, sent in SPEECH.items()},
        **{
            f"a replica that describes itself with {name}": (sent, nothing)
            for name, sent in DESCRIPTIONS.items()
        },
    }
    for name, (describe, speak) in attacks.items():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            replica_port = listener.getsockname()[1]
        urls = f"http://127.0.0.1:{replica_port}"
        with running("gateway", engine_urls=urls) as target:
            hostile = functools.partial(attack, replica_port, describe, speak)
            yield await compare(name, hostile, target)
