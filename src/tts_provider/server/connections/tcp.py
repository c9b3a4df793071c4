"""A TCP port for Wyoming: its events as the messages of a `Wire`, within bounds.

The `wyoming` package's reader accepts whatever size a header announces, even a gigabyte; this one
does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocketDisconnect

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest
from tts_provider.keys.caller import GUEST, become
from tts_provider.server.connections.pump import DialectSocket
from tts_provider.server.connections.socket import Sockets, connections_line, too_many_messages
from tts_provider.server.dialects.fields import parse_object
from tts_provider.server.dialects.wyoming import WyomingDialect
from tts_provider.server.service.service import SpeechService
from tts_provider.server.transport.frame_limit import Cut, FrameLimit
from tts_provider.server.transport.websocket import CLOSE_TIMEOUT_S

log = logging.getLogger(__name__)

_PIECE_BYTES = 16 * 1024
# Text to speech takes no audio, so the payload of other events is skipped.
_MAX_PAYLOAD_BYTES = 1024 * 1024


class TcpWire:
    """A `Wire`: every event is one text message, a JSON object with `type` and `data`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits
    ) -> None:
        self._reader, self._writer = reader, writer
        self._limits, self._max_bytes = limits, limits.max_wire_bytes
        self._frame_limit = FrameLimit(limits)
        # `drain` then waits until the system has taken everything.
        writer.transport.set_write_buffer_limits(high=0)

    async def receive(self) -> dict[str, Any]:
        try:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                return {"type": "websocket.disconnect", "code": 1000}
            text, event_bytes = await self._read_event(line)
            await self._take_turn(event_bytes)
            return {"type": "websocket.receive", "text": text}
        except ValueError:  # `readline`, of a line that is too long
            raise self._too_large("an event's line") from None
        except (OSError, asyncio.IncompleteReadError):
            return {"type": "websocket.disconnect", "code": 1006}

    async def _take_turn(self, data_bytes: int) -> None:
        """Let other tasks run between events, and limit the events a second. Raises
        `InvalidRequest` if the client exceeds the limit for too long."""
        now_s = asyncio.get_running_loop().time()
        wait_s = self._frame_limit.take(Cut(data_bytes, frames=1), now_s)
        if self._frame_limit.is_spent(now_s):
            raise too_many_messages(self._limits)
        await asyncio.sleep(wait_s)

    async def _read_event(self, line: bytes) -> tuple[str, int]:
        """The event as one JSON object, and how large it was."""
        try:
            header = parse_object(line.decode())
        except UnicodeDecodeError:
            raise InvalidRequest("an event must be UTF-8", code="invalid_json") from None
        data = header.get("data")
        data = data if isinstance(data, dict) else {}
        data_bytes = _length(header, "data_length")
        if data_bytes > self._max_bytes:
            raise self._too_large("an event's data")
        payload_bytes = _length(header, "payload_length")
        if payload_bytes > _MAX_PAYLOAD_BYTES:
            raise self._too_large("an event's payload")
        event_bytes = len(line) + data_bytes + payload_bytes
        if data_bytes:
            more = await self._reader.readexactly(data_bytes)
            data |= parse_object(more.decode("utf-8", "replace"))
        while payload_bytes > 0:
            piece = await self._reader.readexactly(min(payload_bytes, _PIECE_BYTES))
            payload_bytes -= len(piece)
        return json.dumps({"type": header.get("type"), "data": data}), event_bytes

    def _too_large(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"{what} is larger than {self._max_bytes} bytes, the limit", code="message_too_big"
        )

    async def send(self, message: dict[str, Any]) -> None:
        if self._writer.is_closing():
            raise WebSocketDisconnect(1006)
        self._writer.write(message["bytes"])
        await self.drained()

    async def drained(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise WebSocketDisconnect(1006) from error

    async def close(self, code: int, reason: str) -> None:
        """TCP has neither code nor reason."""
        loop = asyncio.get_running_loop()
        loop.call_later(CLOSE_TIMEOUT_S, self.abort)
        with contextlib.suppress(OSError):
            self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


def _length(header: dict[str, Any], name: str) -> int:
    value = header.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest(f"{name} must be a number of bytes", param=name)
    return value


class WyomingPort:
    """Listens, and serves every client with the same pump as all dialects."""

    def __init__(self, service: SpeechService, sockets: Sockets) -> None:
        self._service = service
        self._sockets = sockets
        # Clients that need no key must not keep out clients that have one.
        self._line = connections_line(service.limits.max_wyoming_connections)
        self._servers: list[asyncio.Server] = []

    async def open(self, listeners: Sequence[socket.socket]) -> None:
        limit = self._service.limits.max_wire_bytes
        for listener in listeners:
            server = await asyncio.start_server(self._serve, sock=listener, limit=limit)
            self._servers.append(server)

    def stop_listening(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = TcpWire(reader, writer, self._service.limits)
        try:
            if self._service.allowances.keys.is_needed:
                become(GUEST)
            connection = DialectSocket(wire, self._service, WyomingDialect)
            await self._sockets.attend(connection, self._line)
        except Exception:  # a fault of the server ends the connection, as at every other endpoint
            log.exception("a Wyoming connection failed unexpectedly")
        finally:
            await wire.close(1000, "")
