"""One client sends as much as it can: what the others hear of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator

from target import Target, running
from witness import Attack, Row, watch

_MASK = b"\0\0\0\0"
_MOST_PROBE_MS = 100.0
_UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(data: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    """A client's frame; the mask is nought. RFC 6455 section 5.2."""
    length = len(data)
    first = bytes([opcode | (0x80 if fin else 0)])
    if length < 126:
        return first + bytes([0x80 | length]) + _MASK + data
    if length < 65536:
        return first + b"\xfe" + length.to_bytes(2, "big") + _MASK + data
    return first + b"\xff" + length.to_bytes(8, "big") + _MASK + data


def open_raw(port: int, path: bytes = b"/v1/stream") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(_UPGRADE % path)
    connection.recv(65536)
    return connection


def pour(
    port: int, seconds: float, data: bytes, path: bytes = b"/v1/stream", first: bytes = b""
) -> None:
    """Send it again and again, reading what comes; connect again where that is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), open_raw(port, path) as connection:
            connection.setblocking(False)
            left = memoryview(first + data)
            while time.monotonic() < until:
                with contextlib.suppress(BlockingIOError):
                    left = left[connection.send(left) :] or memoryview(data)
                with contextlib.suppress(BlockingIOError):
                    if not connection.recv(1 << 20):
                        break
                time.sleep(0.001)


def empty_frames(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b"") * 43_000)


def empty_frames_to_the_seed(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b"") * 43_000, b"/")


def empty_fragments(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b"", 0, fin=False) * 43_000, first=frame(b"", 1, fin=False))


def pings(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b"", 9) * 43_000)


def pings_unread(port: int, seconds: float) -> None:
    """Pings of 125 bytes whose answers nobody reads."""
    until = time.monotonic() + seconds
    data = frame(bytes(125), 9) * 500
    with contextlib.suppress(OSError), open_raw(port) as connection:
        connection.settimeout(0.1)
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                connection.sendall(data)


def unknown_types(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b'{"type":"nothing"}') * 10_000)


def large_json(port: int, seconds: float) -> None:
    pour(port, seconds, frame(b'{"type":[' + b"0," * 1_000_000 + b"0]}"))


def one_byte_chunks(port: int, seconds: float) -> None:
    """An upload whose body comes a byte at a time, as chunked encoding allows."""
    head = (
        b"POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'4e\r\n--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        + b" " * 19
        + b"\r\n"
    )
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as out:
            out.settimeout(1)
            out.sendall(head)
            while time.monotonic() < until:
                out.sendall(b"1\r\na\r\n" * 10_000)


def pipelined_requests(port: int, seconds: float) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as out:
            out.setblocking(False)
            while time.monotonic() < until:
                with contextlib.suppress(BlockingIOError):
                    out.send(request * 5000)
                with contextlib.suppress(BlockingIOError):
                    if not out.recv(1 << 20):
                        break
                time.sleep(0.001)


FLOODS = {
    "43 000 empty text frames in one segment, again and again, `/v1/stream`": empty_frames,
    "the same to `/`": empty_frames_to_the_seed,
    "empty fragments": empty_fragments,
    "empty pings": pings,
    "pings of 125 bytes, their answers unread": pings_unread,
    "messages of an unknown type": unknown_types,
    "JSON messages of 2 MiB": large_json,
    "an upload in chunks of a byte": one_byte_chunks,
    "pipelined requests": pipelined_requests,
}


async def measure() -> AsyncIterator[Row]:
    with running() as target:
        for name, flood in FLOODS.items():
            yield await compare(name, flood, target)


async def compare(name: str, attack: Attack, target: Target) -> Row:
    """With and without it, one behind the other: a busy machine is busy for both."""
    control = await watch(target)
    seen = await watch(target, attack)
    return Row(
        name,
        f"late {seen.late_ms:.0f} ms, /health {seen.probe_ms:.0f} ms, {seen.more_mib:+.0f} MiB",
        f"late {control.late_ms:.0f} ms, /health {control.probe_ms:.0f} ms",
        seen.late_ms <= 2 * max(control.late_ms, 5.0)
        and seen.probe_ms <= _MOST_PROBE_MS
        and seen.more_mib <= 64,
    )
