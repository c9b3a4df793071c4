"""HTTP connections on which the head of an answer is bounded before anybody parses it.

httpx reads any number of informational answers before the one that counts, 2 600 of them without a
turn for anybody else, for as long as they come. Nobody asks a replica for any, so none is taken.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

from tts_provider.engines.remote.frames import NotOurs

MAX_HEAD_BYTES = 16 * 1024

_INFORMATIONAL = (b"HTTP/1.1 1", b"HTTP/1.0 1")


class Transport(httpx2.AsyncHTTPTransport):
    def __init__(self, limits: httpx2.Limits) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(),
        )


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head: bytearray | None = bytearray()
        """What came of an answer's head so far; None behind it."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        if self._head is not None:
            self._head += data[: MAX_HEAD_BYTES + 1]
            self._check_head(self._head)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head = bytearray()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _check_head(self, head: bytearray) -> None:
        if head.startswith(_INFORMATIONAL):
            raise NotOurs("sent an informational answer, for which nobody asked")
        # Lines may end without a carriage return, too.
        if b"\r\n\r\n" in head or b"\n\n" in head:
            self._head = None
        elif len(head) > MAX_HEAD_BYTES:
            raise NotOurs(f"sent a head of more than {MAX_HEAD_BYTES} bytes")
