"""Reads a request's address before anything else does: drops surplus slashes, and finds the service
whose API was called, in whose shape errors are sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tts_provider.errors import WireError

_SLASHES = re.compile("/{2,}")
_SHAPES = "tts_provider.error_shapes"

ErrorBody = Callable[[WireError], dict[str, object]]


@dataclass(frozen=True)
class ErrorShape:
    """The shape of a service's errors, and which requests are for it."""

    is_for: Callable[[str, Headers], bool]
    """Of a path and headers."""
    body: ErrorBody
    headers: Callable[[WireError], Mapping[str, str]] = lambda problem: {}


class AddressMiddleware:
    def __init__(self, app: ASGIApp, shapes: Sequence[ErrorShape]) -> None:
        self._app = app
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "path": clean_path(scope["path"]), _SHAPES: self._shapes}
            if scope.get("method") == "HEAD":
                # RFC 9110 section 9.3.2: the same as GET, and the server leaves the body out.
                scope["method"] = "GET"
        await self._app(scope, receive, send)


def clean_path(path: str) -> str:
    """The path without empty segments, because clients join a base address and a path in different
    ways."""
    path = _SLASHES.sub("/", path)
    return path if path == "/" else path.rstrip("/")


def error_body_of(scope: Scope) -> ErrorBody:
    """How this request's service words the body of an error."""
    return _shape_of(scope).body


def error_headers_of(scope: Scope) -> Callable[[WireError], Mapping[str, str]]:
    """Which headers this request's service adds to an error."""
    return _shape_of(scope).headers


def _shape_of(scope: Scope) -> ErrorShape:
    shapes: Sequence[ErrorShape] = scope[_SHAPES]
    path, headers = scope["path"], Headers(scope=scope)
    return next((shape for shape in shapes if shape.is_for(path, headers)), _OWN)


def error_body(problem: WireError) -> dict[str, object]:
    """An error in the shape of OpenAI's API, which this server's own HTTP uses too."""
    kind = "invalid_request_error" if problem.http_status < 500 else "server_error"
    if problem.http_status == 429:
        kind = "rate_limit_error"
    return {
        "error": {
            "message": problem.message,
            "type": kind,
            "param": problem.param,
            "code": problem.code,
        }
    }


_OWN = ErrorShape(lambda path, headers: True, error_body)
