"""uvicorn's two protocols, with the limits that they lack.

uvicorn waits for ever for a request that does not come whole, for a WebSocket's upgrade that
websockets refuses, and, in `transport.close()`, for a client that does not read. All are ended
here. A long message leaves in fragments, so that a ping need not wait behind all of it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from tts_provider.server.address import clean_path

log = logging.getLogger(__name__)

# How long a connection may take to close when nothing is left to say but goodbye.
CLOSE_TIMEOUT_S = 5.0
FRAGMENT_BYTES = 64 * 1024
# What the system keeps for a client that reads an audio stream: its progress shows when a third of
# this is free again, which at 4 KB/s of Opus is 5 s.
_STREAM_BUFFER_BYTES = 64 * 1024

_PROTOCOL = "tts_provider.protocol"
_FIN = "tts_provider.fin"  # of a "websocket.send" that is one fragment of a message
_BAD_UPGRADE = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Connection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 38\r\n"
    b"\r\n"
    b"The WebSocket handshake is not valid.\n"
)


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP protocol; the application can wait for its client, and cut it off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application: Any = self.app
        self.app = self._run_application

    async def _run_application(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {_PROTOCOL: {"protocol": self}}
        await self._application(scope, receive, send)

    def keep_little_unsent(self) -> None:
        """From now on `drained` waits until the system has taken everything, and it takes less."""
        self.transport.set_write_buffer_limits(high=0)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BUFFER_BYTES)

    async def drained(self) -> None:
        """Until the system has taken what was sent, or the connection is lost."""
        await self.flow.drain()

    def reset(self) -> None:
        """Drop the connection so that nobody takes what arrived for the whole: an HTTP/1.0 client
        sees the end of a body only in how the connection ends."""
        if not self.transport.is_closing():
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


def http_protocol(handshake_timeout_s: float) -> type[HttpProtocol]:
    """uvicorn's HTTP protocol; a connection that begins a request and does not end it in that
    time is dropped, the first request as every later one and a WebSocket's upgrade."""

    class HandshakeTimeout(HttpProtocol):
        _handshake: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_request()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._stop_waiting()
            elif self._handshake is None:
                # uvicorn's keep-alive timer ended with this data.
                self._await_request()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _await_request(self) -> None:
            self._handshake = self.loop.call_later(handshake_timeout_s, self._give_up)

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

    return HandshakeTimeout


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol; the application can end it at once and send fragments."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn looks at `parser_exc` only, which is for frames.
            log.info("a malformed WebSocket upgrade was refused")
            # websockets 17 has an answer ready for some of these, earlier ones for none.
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_UPGRADE)
            self.handshake_complete = self.close_sent = True
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][_PROTOCOL] = {"protocol": self}

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn logs it as a fault of ours
                log.info("a client sent text that is not UTF-8 and was disconnected")
                self.frames = []
                self.conn.send_close(1007, "text must be UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        if self.read_paused:
            # The pong may lie unread behind a message that waits for its turn.
            assert self.ping_timeout is not None
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.abort_soon()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.abort_soon()

    async def send(self, message: Any) -> None:
        if _FIN in message:
            await self._send_fragment(message["bytes"], message[_FIN])
            return
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # Else uvicorn logs a refusal as a fault of the application.
            self.handshake_complete = True

    async def _send_fragment(self, data: memoryview, fin: bool) -> None:
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        if self.conn.expect_continuation_frame:
            self.conn.send_continuation(data, fin)
        else:
            self.conn.send_binary(data, fin)
        self.transport.write(b"".join(self.conn.data_to_send()))
        # A client as fast as we are never makes us wait: others' turns come between fragments.
        await asyncio.sleep(0)

    async def drained(self) -> None:
        """Until the system has taken all that was written, or the connection is lost."""
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=0)
            await self.writable.wait()

    def abort_soon(self) -> None:
        """Drop the connection if it is not closed in time."""
        self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)


def websocket_protocol(max_message_bytes: Mapping[str, int]) -> type[WebSocketProtocol]:
    """`WebSocketProtocol`, with other limits than uvicorn's for messages to some paths."""

    class LimitedByPath(WebSocketProtocol):
        def handle_connect(self, event: Request) -> None:
            super().handle_connect(event)
            limit = max_message_bytes.get(clean_path(event.path.partition("?")[0]))
            if limit is not None:
                self.conn.max_message_size = limit

    return LimitedByPath


def http_protocol_of(scope: Scope) -> HttpProtocol:
    """What is behind a request."""
    extension: dict[str, HttpProtocol] = scope["extensions"][_PROTOCOL]
    return extension["protocol"]


def protocol_of(websocket: WebSocket) -> WebSocketProtocol:
    """What is behind the application's connection."""
    extension: dict[str, WebSocketProtocol] = websocket.scope["extensions"][_PROTOCOL]
    return extension["protocol"]


def fragments(data: bytes | bytearray) -> Iterator[dict[str, Any]]:
    """ASGI messages that are together one binary message; between them no other may be sent.

    https://datatracker.ietf.org/doc/html/rfc6455#section-5.4
    """
    view = memoryview(data)
    for start in range(0, max(len(view), 1), FRAGMENT_BYTES):
        end = start + FRAGMENT_BYTES
        yield {"type": "websocket.send", "bytes": view[start:end], _FIN: end >= len(view)}
