"""uvicorn's two protocols, with the time limits that it lacks.

uvicorn waits for ever for a request line that does not come, and its `transport.close()` waits for
ever for a client that does not read. Both are ended here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_ABORT = "tts_provider.abort"
_CLOSE_TIMEOUT_S = 5.0


def http_protocol(handshake_timeout_s: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol; a connection without a whole request is closed after the timeout."""

    class HandshakeTimeout(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._handshake = self.loop.call_later(handshake_timeout_s, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._handshake.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            # `scope` is set with the first whole request head, a WebSocket's upgrade included.
            if self.scope is None:
                self.transport.abort()

    return HandshakeTimeout


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol; the application can end the connection at once."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][_ABORT] = {"abort": self.transport.abort}

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(_CLOSE_TIMEOUT_S, self.transport.abort)


def abort_of(websocket: WebSocket) -> Callable[[], None]:
    """What drops the connection without waiting for unsent data."""
    extension: dict[str, Any] = websocket.scope["extensions"][_ABORT]
    abort: Callable[[], None] = extension["abort"]
    return abort
