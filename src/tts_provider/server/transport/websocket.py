"""uvicorn's WebSocket protocol, with the limits that it lacks.

uvicorn waits for ever for an upgrade that websockets refuses and, in `transport.close()`, for a
client that does not read. It reads all input in one turn, and it keeps any number of pongs that the
client does not read. This module adds those limits. A long message is sent in fragments, so that a
ping does not have to wait for all of it.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest
from tts_provider.server.transport.address import clean_path, error_body
from tts_provider.server.transport.auth import plain_refusal
from tts_provider.server.transport.frame_limit import FrameCutter, FrameLimit

log = logging.getLogger(__name__)

# How long a connection may take to close when only the close frame is left to send.
CLOSE_TIMEOUT_S = 5.0
FRAGMENT_BYTES = 64 * 1024

PROTOCOL = "tts_provider.protocol"
"""The extension of a request's scope that has its protocol object."""
_FIN = "tts_provider.fin"  # of a "websocket.send" that is one fragment of a message


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol; the application can end it at once and send fragments. It reads
    its input in portions, and keeps at most one pong that the client does not read."""

    limits: Limits
    max_message_bytes: Mapping[str, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Handshake(max_size=self.limits.max_wire_bytes, logger=self.logger)
        self._held = bytearray()
        self._cutter = FrameCutter()
        self._frame_limit = FrameLimit(self.limits)
        self._next_turn: asyncio.TimerHandle | None = None
        self._next_turn_s = 0.0
        self._unsent_pong = b""
        self.is_flooding = False
        """The client exceeded its rate limit for too long: nothing more is read."""

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._receive_upgrade(data)
        elif not self.is_flooding:
            self._held += data
            if self._next_turn is None and not self.read_paused:
                self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._held.clear()
        super().connection_lost(exc)

    async def receive(self) -> Any:
        message = await super().receive()
        self._plan_turn()
        return message

    def _take_turn(self) -> None:
        """Read a portion of the input."""
        self._next_turn = None
        if self.transport.is_closing():
            self._held.clear()
            return
        cut = self._cutter.cut(self._held)
        if not cut.data_bytes:
            self.transport.resume_reading()
            return
        data = bytes(self._held[: cut.data_bytes])
        del self._held[: cut.data_bytes]
        super().data_received(data)
        now_s = self.loop.time()
        self._next_turn_s = now_s + self._frame_limit.take(cut, now_s)
        if self._frame_limit.is_spent(now_s):
            self.is_flooding = True
            self._held.clear()
            # A message without meaning, so that the application notices.
            self.queue.put_nowait({"type": "websocket.receive", "text": ""})
        self._plan_turn()

    def _plan_turn(self) -> None:
        """Plan a turn for the rest of the input, after the wait and when the application has taken
        what there was. Until then nothing is read."""
        if self.read_paused or self._next_turn is not None or self.is_flooding:
            return
        if not self._held and self._next_turn_s <= self.loop.time():
            self.transport.resume_reading()
            return
        self.transport.pause_reading()
        self._next_turn = self.loop.call_at(self._next_turn_s, self._take_turn)

    def _receive_upgrade(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn looks at `parser_exc` only, which is for frames.
            log.info("a malformed WebSocket upgrade was refused")
            # websockets 17 has an answer ready for some of these, earlier versions for none.
            answer = b"".join(self.conn.data_to_send())
            self.transport.write(answer or plain_refusal(_bad_handshake()))
            self.handshake_complete = self.close_sent = True
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][PROTOCOL] = {"protocol": self}
            path = clean_path(event.path.partition("?")[0])
            limit = self.max_message_bytes.get(path, self.limits.max_wire_bytes)
            self.conn.max_message_size = limit

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self.transport.is_closing():
            return
        if self.writable.is_set():
            self.transport.write(pong)
        else:
            # RFC 6455 section 5.5.3: the most recent ping is enough.
            self._unsent_pong = pong

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._unsent_pong = self._unsent_pong, b""
        if pong and not self.transport.is_closing():
            self.transport.write(pong)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn logs it as a fault of ours
                log.info("a client sent text that is not UTF-8 and was disconnected")
                self.frames = []
                if self.conn.state is State.OPEN:  # otherwise its own close frame comes after it
                    self.conn.send_close(1007, "text must be UTF-8")
                    self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._next_turn is not None:
            # The pong may be unread input after a message that waits for its turn.
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
        if message["type"] == "websocket.send" and self.transport.is_closing():
            raise ClientDisconnected  # which uvicorn does not look at
        await super().send(message)
        if message["type"] == "websocket.close":
            self._plan_turn()  # the client's own close frame may be in the held input
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # Otherwise uvicorn logs a refusal as a fault of the application.
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
        # A fast client causes no backpressure, so let other tasks run between fragments.
        await asyncio.sleep(0)

    async def drained(self) -> None:
        """Wait until the operating system has accepted all that was written, or the connection is
        lost."""
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=0)
            await self.writable.wait()

    def abort_soon(self) -> None:
        """Drop the connection if it is not closed in time."""
        self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)


class _Handshake(ServerProtocol):
    """websockets' own handshake, with refusals in the shape of all HTTP errors of this server."""

    def reject(self, status: http.HTTPStatus | int, text: str) -> Response:
        response = super().reject(status, text)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        response.body = json.dumps(error_body(_bad_handshake(text.strip()))).encode()
        response.headers["Content-Type"] = "application/json"
        response.headers["Content-Length"] = str(len(response.body))
        return response


def websocket_protocol(
    limits: Limits, max_message_bytes: Mapping[str, int]
) -> type[WebSocketProtocol]:
    """`WebSocketProtocol`, with other limits for messages to some paths."""
    attributes = {"limits": limits, "max_message_bytes": max_message_bytes}
    return type("LimitedWebSocketProtocol", (WebSocketProtocol,), attributes)


def protocol_of(websocket: WebSocket) -> WebSocketProtocol:
    """The protocol object of the application's connection."""
    extension: dict[str, WebSocketProtocol] = websocket.scope["extensions"][PROTOCOL]
    return extension["protocol"]


def fragments(data: bytes | bytearray) -> Iterator[dict[str, Any]]:
    """ASGI messages that together are one binary message. No other message may be sent between
    them.

    https://datatracker.ietf.org/doc/html/rfc6455#section-5.4
    """
    view = memoryview(data)
    for start in range(0, max(len(view), 1), FRAGMENT_BYTES):
        end = start + FRAGMENT_BYTES
        yield {"type": "websocket.send", "bytes": view[start:end], _FIN: end >= len(view)}


def _bad_handshake(message: str = "the WebSocket handshake is not valid") -> InvalidRequest:
    return InvalidRequest(message, code="invalid_handshake")
