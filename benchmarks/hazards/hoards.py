"""One session has as much waiting as it can."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from floods import compare, frame, open_raw
from target import running
from witness import Row


def send_all(
    port: int, seconds: float, messages: Iterator[dict[str, Any]], path: bytes = b"/v1/stream"
) -> None:
    """Faster than anything can be spoken; what comes is read."""
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError), open_raw(port, path) as connection:
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


def send_again(
    port: int,
    seconds: float,
    messages: Callable[[], Iterator[dict[str, Any]]],
    path: bytes = b"/v1/stream",
) -> None:
    """The same, and once more where the connection is ended."""
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        send_all(port, left_s, messages(), path)


def _ids() -> Iterator[dict[str, Any]]:
    output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
    for number in itertools.count():
        context_id = f"{number}" + "i" * 250_000
        body = {"transcript": "", "continue": True, "voice": "male", "output_format": output}
        yield {"context_id": context_id, **body}


def contexts_without_text(port: int, seconds: float) -> None:
    send_again(port, seconds, _ids, b"/tts/websocket")


def _requests() -> Iterator[dict[str, Any]]:
    yield {"text": "Hello."}
    while True:
        yield {"command": "info", "request_id": "r" * 250_000}


def requests_with_long_ids(port: int, seconds: float) -> None:
    send_again(port, seconds, _requests, b"/")


def _dictionaries() -> Iterator[dict[str, Any]]:
    yield {"type": "input_text.append", "context_id": "c", "text": "A sentence. " * 1000}
    audio = base64.b64encode(b"x").decode()
    for number in itertools.count():
        entries = {f"w{number}x{each}": "x" * 100 for each in range(2000)}
        yield {"type": "session.update", "pronunciations": entries}
        yield {"type": "context.append_audio", "context_id": "c", "text": "a", "audio": audio}


def dictionaries(port: int, seconds: float) -> None:
    send_again(port, seconds, _dictionaries)


def _marks() -> Iterator[dict[str, Any]]:
    yield {"type": "session.update", "ssml": True}
    yield {"type": "input_text.append", "context_id": "c", "text": "<speak>a "}
    while True:
        text = '<phoneme alphabet="ipa" ph="x"></phoneme>' * 450
        yield {"type": "input_text.append", "context_id": "c", "text": text}


def pronunciations_of_nothing(port: int, seconds: float) -> None:
    send_again(port, seconds, _marks)


def next_texts(_: int, seconds: float, port: int) -> None:
    """Wyoming's, in chunks, while the first is spoken."""
    until = time.monotonic() + seconds
    texts = [("synthesize", "Hello."), ("synthesize-start", "")]
    lines = [_event(kind, text) for kind, text in texts]
    chunk = _event("synthesize-chunk", "x" * 10_000)
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as out:
            out.sendall(b"".join(lines))
            out.settimeout(0.01)
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    out.sendall(chunk)
                with contextlib.suppress(TimeoutError):
                    if not out.recv(1 << 20):
                        break


def _event(kind: str, text: str) -> bytes:
    return json.dumps({"type": kind, "data": {"text": text}}).encode() + b"\n"


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
    "Cartesia's contexts without text, their ids 250 KB": contexts_without_text,
    "requests to `/` that wait, their ids 250 KB": requests_with_long_ids,
    "dictionaries of 2000 words, each with one byte of audio": dictionaries,
    "pronunciations of nothing in half a sentence of SSML": pronunciations_of_nothing,
}


async def measure() -> AsyncIterator[Row]:
    with running(wyoming_port="0") as target:
        for name, hoard in HOARDS.items():
            yield await compare(name, hoard, target)
        hoard = partial(next_texts, port=target.wyoming_port)
        yield await compare("Wyoming's next text while one is spoken", hoard, target)
