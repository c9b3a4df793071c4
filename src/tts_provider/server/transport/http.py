"""uvicorn's HTTP protocol, with the limits that it lacks.

uvicorn waits for ever for an incomplete request and, in `transport.close()`, for a client that does
not read. It reads all chunks of a body in one turn, and it does not limit the number of
connections. This module adds those limits; `websocket.py` does the same for WebSockets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tts_provider.errors import InvalidRequest, OverCapacity
from tts_provider.server.transport.auth import plain_refusal
from tts_provider.server.transport.connection_limit import ConnectionLimit
from tts_provider.server.transport.websocket import PROTOCOL, WebSocketProtocol

# The operating system's send buffer for a client that reads an audio stream. Its progress shows
# when a third of the buffer is free again, which at 4 KB/s of Opus is 5 s.
_STREAM_BUFFER_BYTES = 64 * 1024
# A chunk of a body has 6 bytes at least, and takes 20 µs.
_CHUNKED_BYTES_A_TURN = 2048


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP protocol; the application can wait for its client, and drop the connection."""

    connection_limit: ConnectionLimit
    handshake_timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application: Any = self.app
        self.app = self._run_application
        self._handshake: asyncio.TimerHandle | None = None
        self._held = bytearray()

    async def _run_application(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {PROTOCOL: {"protocol": self}}
        await self._application(scope, receive, send)

    def keep_little_unsent(self) -> None:
        """From now on the send buffer is small, and `drained` waits until the operating system has
        accepted everything."""
        if self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(high=0)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BUFFER_BYTES)

    async def drained(self) -> None:
        """Wait until the operating system has accepted what was sent, or the connection is lost."""
        await self.flow.drain()
        # If there was no backpressure, let other tasks run, and the loss of the connection be
        # noticed.
        await asyncio.sleep(0)

    def reset(self) -> None:
        """Drop the connection so that a client does not take a part for the whole: an HTTP/1.0
        client recognizes the end of a body only by how the connection ends."""
        if not self.transport.is_closing():
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        self.connection_limit.enter(self, len(self.connections))

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        self._held.clear()
        self._stop_waiting()
        self.connection_limit.leave(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self.connection_limit.leave(self)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.connection_limit.wait(self)

    def send_400_response(self, msg: str) -> None:
        """Answer input that is not HTTP. Within a body, the application is notified too."""
        self._held.clear()
        if self._is_answering():
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:
                self.reset()
                return
        problem = InvalidRequest("the request is not valid HTTP", code="invalid_http")
        self.transport.write(plain_refusal(problem))
        self.transport.close()

    def refuse(self, problem: OverCapacity) -> None:
        """Answer before there is a request, and close."""
        self.transport.write(plain_refusal(problem))
        self.transport.close()

    @property
    def is_waiting(self) -> bool:
        """Whether the client still has to send a request, or the rest of one."""
        return not self._is_answering() or self.cycle.more_body

    def _take_turn(self) -> None:
        """Chunks of a body may have one byte each, so a turn reads a limited number of them."""
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers or ())
        taken = _CHUNKED_BYTES_A_TURN if is_chunked else len(self._held)
        data = bytes(self._held[:taken])
        del self._held[:taken]
        if not data or self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            return
        if self._is_answering():
            self._stop_waiting()
        elif self._handshake is None:
            # uvicorn's keep-alive timer ended with this data.
            self._await_request()
        if self._held:
            self.transport.pause_reading()
            self.loop.call_soon(self._take_turn)
        elif not self.flow.read_paused:
            self.transport.resume_reading()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._handshake = self.loop.call_later(self.handshake_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None

    def _give_up(self) -> None:
        self._handshake = None
        protocol = self.transport.get_protocol()
        upgrading = isinstance(protocol, WebSocketProtocol) and not protocol.handshake_complete
        if upgrading or (protocol is self and not self._is_answering()):
            self.transport.abort()


def http_protocol(handshake_timeout_s: float, max_sockets: int) -> type[HttpProtocol]:
    """uvicorn's HTTP protocol with a request timeout: a connection that begins a request and does
    not complete it in that time is dropped. The timeout holds for the first request, every later
    one, and a WebSocket's upgrade."""
    attributes = {
        "handshake_timeout_s": handshake_timeout_s,
        "connection_limit": ConnectionLimit(max_sockets),
    }
    return type("LimitedHttpProtocol", (HttpProtocol,), attributes)


def http_protocol_of(scope: Scope) -> HttpProtocol:
    """The protocol object of a request."""
    extension: dict[str, HttpProtocol] = scope["extensions"][PROTOCOL]
    return extension["protocol"]
