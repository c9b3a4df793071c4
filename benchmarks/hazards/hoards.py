"""One session has as much waiting as it can."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from floods import compare, frame, open_raw
from target import running
from witness import Row


def send_all(port: int, seconds: float, messages: Iterator[dict[str, Any]]) -> None:
    """Faster than anything can be spoken; what comes is read."""
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError), open_raw(port) as connection:
        connection.setblocking(False)
        left = memoryview(b"")
        while time.monotonic() < until:
            left = left or memoryview(frame(json.dumps(next(messages)).encode()))
            with contextlib.suppress(BlockingIOError):
                left = left[connection.send(left) :]
            with contextlib.suppress(BlockingIOError):
                if not connection.recv(1 << 20):
                    return


def _audio(text: str) -> Iterator[dict[str, str]]:
    yield {"type": "input_text.append", "context_id": "c", "text": "A sentence. " * 1000}
    audio = base64.b64encode(b"x").decode()
    while True:
        yield {"type": "context.append_audio", "context_id": "c", "text": text, "audio": audio}


def _flushes(flush_id: str) -> Iterator[dict[str, str]]:
    while True:
        yield {"type": "input_text.append", "context_id": "c", "text": "a"}
        yield {"type": "input_text.flush", "context_id": "c", "flush_id": flush_id}


def texts_with_a_byte_of_audio(port: int, seconds: float) -> None:
    send_all(port, seconds, _audio("x" * 20_000))


def wide_texts_with_a_byte_of_audio(port: int, seconds: float) -> None:
    send_all(port, seconds, _audio("x" * 19_999 + "\U0001f600"))


def flushes_with_long_names(port: int, seconds: float) -> None:
    send_all(port, seconds, _flushes("f" * 60_000))


def flushes(port: int, seconds: float) -> None:
    send_all(port, seconds, _flushes("f" * 100))


def messages_that_never_end(port: int, seconds: float) -> None:
    """64 connections, each with a message of which all but the end was sent."""
    until = time.monotonic() + seconds
    sockets: list[socket.socket] = []
    with contextlib.suppress(OSError):
        for _ in range(64):
            sockets.append(open_raw(port))
            sockets[-1].settimeout(5)
            sockets[-1].sendall(frame(b"x" * 1_000_000, 1, fin=False))
    time.sleep(max(0.0, until - time.monotonic()))


HOARDS = {
    "20 000 characters with one byte of audio, again and again": texts_with_a_byte_of_audio,
    "the same with a wide character in it": wide_texts_with_a_byte_of_audio,
    "flushes with names of 60 KB": flushes_with_long_names,
    "flushes of a letter each": flushes,
    "64 messages of 1 MB whose end does not come": messages_that_never_end,
}


async def measure() -> AsyncIterator[Row]:
    with running() as target:
        for name, hoard in HOARDS.items():
            yield await compare(name, hoard, target)
