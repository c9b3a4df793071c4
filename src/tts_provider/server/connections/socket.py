"""What all connections share, over a WebSocket or a similar transport: the list of open ones,
sending with a timeout, and closing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.dialects import KEYS
from tts_provider.server.http.answers import error_response
from tts_provider.server.service.service import SpeechService
from tts_provider.server.transport.auth import choose_subprotocol, log_refusal
from tts_provider.server.transport.websocket import protocol_of
from tts_provider.waiting.line import Line, try_later

log = logging.getLogger(__name__)


class Wire(Protocol):
    """A transport for messages in both directions, in ASGI's terms for a WebSocket."""

    async def receive(self) -> dict[str, Any]:
        """Return the next message, or that the connection is over. Raises `WireError` if what
        arrives is not a message and the connection cannot go on."""

    async def send(self, message: dict[str, Any]) -> None:
        """Return when the operating system accepts more. Raises `WebSocketDisconnect` if the client
        is gone."""

    async def drained(self) -> None:
        """Wait until the operating system has accepted everything that was sent, or the connection
        is lost."""

    async def close(self, code: int, reason: str) -> None:
        """Close behind what is not sent yet, which is dropped if it takes long."""

    def abort(self) -> None:
        """Drop the connection."""


class WebSocketWire:
    """A `Wire` over a WebSocket that was accepted."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> dict[str, Any]:
        message = dict(await self._websocket.receive())
        protocol = protocol_of(self._websocket)
        if protocol.is_flooding and message["type"] != "websocket.disconnect":
            raise too_many_messages(protocol.limits)
        return message

    async def send(self, message: dict[str, Any]) -> None:
        try:
            await self._websocket.send(message)
        except RuntimeError as error:
            # Starlette's way to say that another task has closed the socket meanwhile.
            raise WebSocketDisconnect(1006) from error

    async def drained(self) -> None:
        await protocol_of(self._websocket).drained()

    async def close(self, code: int, reason: str) -> None:
        protocol_of(self._websocket).abort_soon()
        # The client, or another task of the server, may have closed it already.
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def abort(self) -> None:
        protocol_of(self._websocket).transport.abort()


def too_many_messages(limits: Limits) -> InvalidRequest:
    return InvalidRequest(
        f"for {limits.flood_timeout_s:g} s more arrived than {limits.max_frames_per_s:g} "
        f"frames and {limits.max_bytes_per_s:g} bytes a second, the limits",
        code="too_many_messages",
    )


class Socket(ABC):
    """One accepted connection."""

    def __init__(self, wire: Wire, service: SpeechService) -> None:
        self._wire = wire
        self._service = service
        self._woken = asyncio.Event()
        # A sender holds it, so that messages that belong together, and the fragments of a message,
        # are not interrupted by the answer to a cancel or by an error. One task for all sending
        # would be simpler, but each chunk would wait another turn of the event loop: 0.47 ms from
        # the engine to the client at the median, not 0.22 (benchmarks/server.py).
        self._sending = asyncio.Lock()

    @property
    def is_for_stranger(self) -> bool:
        """Whether the client has not shown a key yet."""
        return False

    async def show_key(self) -> bool:
        """Wait for the key of a client that has not shown one, and return whether it did. If not,
        the connection is over when this returns."""
        return True

    @abstractmethod
    async def run(self) -> None:
        """Serve the accepted connection until it is closed."""

    @abstractmethod
    def _describe(self, problem: WireError) -> Sequence[str | bytes]:
        """The messages that report a problem with the whole connection."""

    def wake(self) -> None:
        self._woken.set()

    async def _receive(self) -> str | None:
        """The next text message; None when the connection is over."""
        try:
            message = await self._wire.receive()
        except WireError as error:  # what arrived is not a message
            await self.refuse(error)
            return None
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        if text is None:
            problem = InvalidRequest(
                "a binary message arrived where a JSON text message was expected",
                code="binary_not_expected",
            )
            await self.refuse(problem, close_code=1003)
        return text

    async def refuse(self, problem: WireError, close_code: int | None = None) -> None:
        """Send the reason, then close."""
        with contextlib.suppress(WebSocketDisconnect):
            self._service.count_error(problem)
            await self._send_together(self._describe(problem))
            await self.close(close_code or problem.close_code, problem.message)

    async def close(self, code: int, reason: str) -> None:
        """Close when the client has received what was sent; if it does not read, drop the
        connection."""
        with self._service.expect_reading(0.0, self._wire.abort):
            await self._wire.drained()
        await self.close_now(code, reason)

    def cut_off(self) -> None:
        """Drop the connection without a message."""
        self._wire.abort()

    async def close_now(self, code: int, reason: str) -> None:
        """Close behind what is not sent yet, which is dropped if it takes long."""
        await self._wire.close(code, reason)

    async def _send_together(self, messages: Sequence[str | bytes], audio_s: float = 0.0) -> None:
        """Send messages that belong together and carry the given amount of audio."""
        async with self._sending:
            for message in messages:
                kind = "text" if isinstance(message, str) else "bytes"
                await self._send({"type": "websocket.send", kind: message}, audio_s)

    async def _send(self, message: dict[str, Any], audio_s: float = 0.0) -> None:
        """Send one message or fragment, holding `_sending`; a listener that falls too far behind is
        disconnected."""
        with self._service.expect_reading(audio_s, self._wire.abort):
            await self._wire.send(message)


def connections_line(places: int) -> Line:
    full = f"{places} connections are open, the limit; try again later"
    return Line(places, try_later(full), waiting=0)


class Sockets:
    """The open connections of all endpoints."""

    def __init__(self, service: SpeechService) -> None:
        self._service = service
        self._line = connections_line(service.limits.max_connections)
        self.strangers: dict[Socket, None] = {}
        """Connections whose client has not shown a key yet, the oldest first."""
        self.connections: set[Socket] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def serve(
        self, websocket: WebSocket, make: Callable[[WebSocket, SpeechService], Socket]
    ) -> None:
        try:
            socket = make(websocket, self._service)
        except WireError as problem:  # the address asks for something that cannot be served
            self._service.count_error(problem)
            log_refusal(websocket.scope, problem.code)
            await websocket.send_denial_response(error_response(problem, websocket.scope))
            return
        await websocket.accept(choose_subprotocol(websocket.scope["subprotocols"], KEYS.schemes))
        await self.attend(socket)

    async def attend(self, socket: Socket, line: Line | None = None) -> None:
        """Serve an accepted connection until it is closed. It counts in `line`, or together with
        all others."""
        line = line or self._line
        self.connections.add(socket)
        self._empty.clear()
        try:
            if not await self._is_known(socket):
                return
            if (refusal := line.refusal()) is None:
                async with line.place():
                    await self._run(socket)
                return
        finally:
            self.connections.remove(socket)
            if not self.connections:
                self._empty.set()
        await socket.refuse(refusal)

    async def _is_known(self, socket: Socket) -> bool:
        """Whether the client needs no key, or shows one. The number of strangers is small, and the
        oldest gives way to the newest: they keep out neither clients with a key nor, for long, each
        other."""
        if not socket.is_for_stranger:
            return True
        self.strangers[socket] = None
        limit = self._service.limits.max_unauthenticated_connections
        if len(self.strangers) > limit:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            oldest.cut_off()
            log.warning(
                "more than %d connections had shown no key, the limit; the oldest was ended", limit
            )
        try:
            return await socket.show_key()
        finally:
            self.strangers.pop(socket, None)

    async def _run(self, socket: Socket) -> None:
        self._service.metrics.connections.inc()
        try:
            await socket.run()
        finally:
            self._service.metrics.connections.dec()

    def wake(self) -> None:
        """Notify connections without a turn that the state of the server changed."""
        for socket in self.connections:
            socket.wake()

    async def wait_closed(self) -> None:
        """Wait until no connection is open."""
        await self._empty.wait()

    async def close_all(self, code: int, reason: str) -> None:
        """Close the remaining connections, whatever they are doing, and wait until they are
        closed."""
        await asyncio.gather(*(socket.close_now(code, reason) for socket in self.connections))
        await self.wait_closed()


async def wait_for(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Clear `event`, then wait; return whether it was set in that time. `asyncio.wait_for` would do
    the same, but before Python 3.12 it can swallow a cancellation."""
    in_time = True

    def give_up() -> None:
        nonlocal in_time
        in_time = False
        event.set()

    event.clear()
    timer = None
    if timeout_s is not None:
        timer = asyncio.get_running_loop().call_later(timeout_s, give_up)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()
    return in_time
