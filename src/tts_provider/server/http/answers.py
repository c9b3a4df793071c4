"""HTTP with the limits that Starlette lacks: a body of bounded size, and a stream of audio that
ends when its client leaves, stops reading, or cannot be told everything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.service.pieces import Piece
from tts_provider.server.service.service import SpeechService, unexpected_failure
from tts_provider.server.transport.address import error_body_of, error_headers_of
from tts_provider.server.transport.http import HttpProtocol, http_protocol_of
from tts_provider.speech.pipeline import Segment
from tts_provider.waiting.leaving import Left, until_left, wait_left

log = logging.getLogger(__name__)

FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"
JSON_MEDIA_TYPES = ("application/json", "text/plain", "text/json", FORM_MEDIA_TYPE)

_RETRY_AFTER_MS = 1000

_Read = TypeVar("_Read")


def error_response(problem: WireError, scope: Scope) -> Response:
    """The error as the service words it whose address `scope` has."""
    headers = dict(error_headers_of(scope)(problem))
    if problem.retryable:
        retry_after_ms = getattr(problem, "retry_after_ms", _RETRY_AFTER_MS)
        headers["Retry-After"] = str(math.ceil(retry_after_ms / 1000))
    if problem.http_status == 408:
        headers["Connection"] = "close"  # what still comes would be taken for the next request
    return JSONResponse(error_body_of(scope)(problem), problem.http_status, headers)


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """For `Allow`: what this path takes. Starlette names only what its first route takes."""
    routes = list(routes)
    methods = [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**scope, "method": method})[0] == Match.FULL for route in routes)
    ]
    if "GET" in methods and "HEAD" not in methods:
        methods.insert(methods.index("GET") + 1, "HEAD")
    return ", ".join(methods)


def meant_path(routes: Iterable[BaseRoute], scope: Scope) -> str | None:
    """The path that there is, where one was asked for without `/v1` or with it twice, as clients
    make it that join a base address with their own; None where that is no path here either."""
    routes, path = list(routes), scope["path"]
    for other in (f"/v1{path}", path.removeprefix("/v1")):
        moved = {**scope, "path": other}
        if other != path and any(route.matches(moved)[0] != Match.NONE for route in routes):
            return other
    return None


async def read_body(request: Request, limits: Limits, *, most_bytes: int | None = None) -> bytes:
    """The whole body, whatever its `Content-Length` says; of an upload `most_bytes`.

    Raises `InvalidRequest` where it is too big, takes too long, or its client leaves.
    """
    if most_bytes is not None:
        reading = _read_body(request, most_bytes)
        return await arriving(reading, "the body", limits.upload_timeout_s)
    reading = _read_body(request, limits.max_wire_bytes)
    return await arriving(reading, "the body", limits.handshake_timeout_s)


async def read_json(request: Request, limits: Limits) -> bytes:
    """The body of a request that says it is JSON, or what clients call it that say nothing: text,
    as `fetch` does, or a form, as `curl --data` does. Raises `InvalidRequest`."""
    kind = media_type(request)
    if kind not in JSON_MEDIA_TYPES and not kind.endswith("+json"):
        raise InvalidRequest(
            f"the body must be application/json; got {kind[:64]!r}",
            code="unsupported_media_type",
            http_status=415,
        )
    return await read_body(request, limits)


def media_type(request: Request) -> str:
    """Of the body; JSON's where nothing is said."""
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() or JSON_MEDIA_TYPES[0]


async def arriving(reading: Coroutine[Any, Any, _Read], what: str, timeout_s: float) -> _Read:
    """What a client still sends. Raises `InvalidRequest` where it takes too long or breaks off."""
    try:
        # Before Python 3.12 it can swallow a cancellation, which here is only uvicorn's last word.
        return await asyncio.wait_for(reading, timeout_s)
    except asyncio.TimeoutError:
        raise InvalidRequest(
            f"{what} did not arrive in {timeout_s:g} s", code="request_timeout", http_status=408
        ) from None
    except ClientDisconnect:
        raise InvalidRequest("the client left within its request", code="disconnected") from None


async def while_connected(request: Request, work: Coroutine[Any, Any, _Read]) -> _Read:
    """Work for a request whose body was read. Raises what it raises, and `InvalidRequest` where
    the client leaves, which cancels it."""
    try:
        return await until_left(work, request.receive)
    except Left:
        raise InvalidRequest(
            "the client left before it was answered", code="disconnected"
        ) from None


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit_bytes:
                raise InvalidRequest(
                    f"the body is larger than {limit_bytes} bytes, the limit",
                    code="body_too_large",
                    http_status=413,
                )
    return bytes(body)


class AudioStream(Response):
    """A body that is sent piece by piece, as it is made.

    The headers leave with the first piece: what goes wrong before is raised, and answered as any
    other error. What goes wrong later resets the connection. A client that leaves, or does not take
    a piece in its time and `max_unsent_audio_s`, closes `pieces`.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[Piece, None] | AsyncGenerator[Piece | Segment, None],
        media_type: str,
        service: SpeechService,
    ) -> None:
        """Segments among them are not told."""
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        # nginx would keep pieces back until it has some pages of them.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._pieces = pieces
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol = http_protocol_of(scope)
        with contextlib.suppress(Left):
            if not await until_left(self._send_pieces(protocol, send), receive):
                protocol.reset()
                await wait_left(receive)

    async def _send_pieces(self, protocol: HttpProtocol, send: Send) -> bool:
        """Whether all were sent. Raises `WireError` where not even the headers were."""
        started = False
        try:
            async with contextlib.aclosing(self._pieces):
                async for piece in self._pieces:
                    if isinstance(piece, Segment):
                        continue
                    if not started:
                        protocol.keep_little_unsent()
                        await send(self._start())
                        started = True
                    with self._service.expect_reading(piece.audio_s, protocol.reset):
                        await send(_body(piece.data, more=True))
                        await protocol.drained()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends the request, as told
            problem = _as_wire_error(error)
            if not started:
                raise problem from None
            self._service.count_error(problem)
            log.warning("audio was cut off: %s", problem.message)
            return False
        await send(_body(b"", more=False))
        return True

    def _start(self) -> dict[str, object]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }


def _as_wire_error(error: Exception) -> WireError:
    if isinstance(error, WireError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return unexpected_failure()


def _body(data: bytes, *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}
