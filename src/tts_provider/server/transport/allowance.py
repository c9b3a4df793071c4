"""A key's rate limits over HTTP: requests in a minute, and headers that say what is left."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tts_provider.errors import LimitReached
from tts_provider.keys.caller import Caller, caller_of
from tts_provider.keys.limits import Allowances
from tts_provider.server.transport.auth import refuse

COUNTED = ("POST", "PUT", "PATCH", "DELETE")
"""Requests that only read do not count, so that a client can look at what is left."""


class AllowanceMiddleware:
    """Counts requests, after the key check. Requests on a WebSocket are counted where they are
    served."""

    def __init__(self, app: ASGIApp, allowances: Allowances) -> None:
        self._app = app
        self._allowances = allowances

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (caller := caller_of(scope)).name is not None:
            send = self._telling(caller, send)
            if scope["method"] in COUNTED:
                try:
                    self._allowances.take_request(caller)
                except LimitReached as problem:
                    await refuse(scope, receive, send, problem)
                    return
        await self._app(scope, receive, send)

    def _telling(self, caller: Caller, send: Send) -> Send:
        """The same `send`, which adds what is left to the headers when the answer begins."""

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts = [(k.encode(), v.encode()) for k, v in self._allowances.facts(caller)]
                message = {**message, "headers": [*message.get("headers", ()), *facts]}
            await send(message)

        return tell
