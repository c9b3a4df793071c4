"""Who may come in: the origin check and the key check, before any upgrade or route.

Both are ASGI middleware, so HTTP and WebSocket obey the same rules. A WebSocket is refused with a
plain HTTP response instead of the upgrade.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from tts_provider.errors import ForbiddenOrigin, Unauthorized, WireError
from tts_provider.server.address import error_body_of, error_headers_of

log = logging.getLogger(__name__)

OPEN_PATHS = ("/health", "/ready")
PAGE_PATH, WEB_PREFIX = "/", "/web/"
SUBPROTOCOL = "tts-provider"
KEY_SUBPROTOCOL_PREFIX = "tts-provider.key."

# Before a key: HTTP's word, and Deepgram's, which its clients in browsers offer as a subprotocol.
_SCHEMES = ("bearer", "token")
_KEY_HEADERS = ("x-api-key", "xi-api-key")
_KEYS_IN_ADDRESS = {"/tts/websocket": ("api_key", "access_token")}
_MISSING_KEY = "tts_provider.missing_key"

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginMiddleware:
    """A browser's page may call from the same host or from the allow-list."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
                problem = ForbiddenOrigin(
                    f"pages of {origin!r} may not call this server; "
                    "its operator can allow them with --allow-origin"
                )
                await refuse(scope, receive, send, problem)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        if "*" in self._allowed or origin.lower() in self._allowed:
            return True
        scheme, _, authority = origin.partition("://")
        own = _host_port(host, scheme)
        return own is not None and _host_port(authority, scheme) == own


def _host_port(authority: str, scheme: str) -> tuple[str, int | None] | None:
    """A host header or an origin's host, with the scheme's own port where none is written."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, port if port is not None else _DEFAULT_PORTS.get(scheme.lower())


class KeyMiddleware:
    """Where keys are configured, everything but the probes and the page needs one of them.

    A WebSocket to a path that `takes_key` may bring it in a message: `missing_key` is what it has
    to show it to.
    """

    def __init__(
        self, app: ASGIApp, keys: Iterable[str], takes_key: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._takes_key = takes_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._digests and not _is_open(scope):
            offered = offered_key(Headers(scope=scope)) or _key_in_address(scope)
            if offered is None and scope["type"] == "websocket" and self._takes_key(scope["path"]):
                scope = {**scope, _MISSING_KEY: self._is_valid}
            elif offered is None or not self._is_valid(offered):
                what = "no API key was sent" if offered is None else "the API key is not valid here"
                problem = Unauthorized(
                    f"{what}; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
                )
                await refuse(scope, receive, send, problem)
                return
        await self._app(scope, receive, send)

    def _is_valid(self, key: str) -> bool:
        # Digests have one length, and every one is compared: the time tells nothing of a key.
        matches = [hmac.compare_digest(_digest(key), digest) for digest in self._digests]
        return any(matches)


def missing_key(scope: Scope) -> Callable[[str], bool] | None:
    """Whether this is a key, where the connection still has to bring one."""
    check: Callable[[str], bool] | None = scope.get(_MISSING_KEY)
    return check


def _is_open(scope: Scope) -> bool:
    return scope["type"] == "http" and is_open_path(scope["path"], scope["method"])


def is_open_path(path: str, method: str) -> bool:
    """Whether a request needs no key."""
    is_page = path == PAGE_PATH or path.startswith(WEB_PREFIX)
    return path in OPEN_PATHS or (is_page and method in ("GET", "HEAD", "OPTIONS"))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def offered_key(headers: Headers) -> str | None:
    """The key a request carries in its headers, from whichever of the places for it."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and token.strip():
        return token.strip()
    for name in _KEY_HEADERS:
        if key := headers.get(name, "").strip():
            return key
    protocols = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    if len(protocols) > 1 and protocols[0].lower() in _SCHEMES:
        return protocols[1]
    for name in protocols:
        if name.startswith(KEY_SUBPROTOCOL_PREFIX):
            encoded = name[len(KEY_SUBPROTOCOL_PREFIX) :]
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                return None
    return None


def _key_in_address(scope: Scope) -> str | None:
    """The key in a WebSocket's query, where a service's clients in browsers put it."""
    names = _KEYS_IN_ADDRESS.get(scope["path"], ()) if scope["type"] == "websocket" else ()
    query = QueryParams(scope["query_string"])
    return next((query[name] for name in names if query.get(name)), None)


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """The subprotocol to accept: a browser that offered some fails without one of them."""
    names = list(offered)
    if SUBPROTOCOL in names:
        return SUBPROTOCOL
    if names and names[0].lower() in _SCHEMES:
        return names[0]
    return next((name for name in names if name.startswith(KEY_SUBPROTOCOL_PREFIX)), None)


async def refuse(scope: Scope, receive: Receive, send: Send, problem: WireError) -> None:
    """Answer with the error as an HTTP response; a WebSocket is not upgraded."""
    prefix = "websocket." if scope["type"] == "websocket" else ""
    body = json.dumps(error_body_of(scope)(problem)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if isinstance(problem, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    for name, value in error_headers_of(scope)(problem).items():
        headers.append((name.encode(), value.encode()))
    start = {
        "type": prefix + "http.response.start",
        "status": problem.http_status,
        "headers": headers,
    }
    await send(start)
    await send({"type": prefix + "http.response.body", "body": body})
    log_refusal(scope, problem.code)


def log_refusal(scope: Scope, code: str) -> None:
    # The raw path has no query and no line breaks.
    path = scope["raw_path"][:200].decode("ascii", "replace")
    log.info("refused", extra={"type": scope["type"], "code": code, "path": path})
