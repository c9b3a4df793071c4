"""A WebSocket client's bytes, made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

_MASK = b"\0\0\0\0"  # which changes nothing


def upgrade(path: str = "/") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def frame(data: bytes = b"", opcode: int = 1, *, fin: bool = True) -> bytes:
    """https://datatracker.ietf.org/doc/html/rfc6455#section-5.2"""
    first, length = bytes([opcode | (0x80 if fin else 0)]), len(data)
    if length < 126:
        return first + bytes([0x80 | length]) + _MASK + data
    if length < 65536:
        return first + b"\xfe" + length.to_bytes(2, "big") + _MASK + data
    return first + b"\xff" + length.to_bytes(8, "big") + _MASK + data


@contextlib.asynccontextmanager
async def raw_socket(
    port: int, path: str = "/", receive_buffer_bytes: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An upgraded connection."""
    connection = socket.socket()
    if receive_buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        writer.write(upgrade(path))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """The server's, opcode and payload, to the end."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            yield first & 0x0F, await reader.readexactly(length)
