"""Access checks: the host, the origin and the key, before any upgrade or route.

All are ASGI middleware, so HTTP and WebSocket obey the same rules. A WebSocket is refused with a
plain HTTP response instead of the upgrade.
"""

from __future__ import annotations

import base64
import binascii
import functools
import http
import ipaddress
import json
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from tts_provider.errors import (
    ForbiddenHost,
    ForbiddenOrigin,
    OverCapacity,
    ScopeTooSmall,
    Unauthorized,
    UnknownKey,
    WireError,
)
from tts_provider.keys.caller import (
    ANONYMOUS,
    STRANGER,
    Caller,
    acting,
    become,
    current_caller,
    with_caller,
)
from tts_provider.keys.guesses import Guesses
from tts_provider.keys.ring import KeyRing
from tts_provider.server.transport.address import error_body, error_body_of, error_headers_of

log = logging.getLogger(__name__)

OPEN_PATHS = ("/health", "/ready")
PAGE_PATH, WEB_PREFIX = "/", "/web/"
SUBPROTOCOL = "tts-provider"
KEY_SUBPROTOCOL_PREFIX = "tts-provider.key."

_MISSING_KEY = "tts_provider.missing_key"
_HOW_TO_SEND = "send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"

# RFC 6761, 6762, 8375, and ICANN's resolution 2024.07.29.06
_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa", ".test")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class KeyPlaces:
    """Where clients put their key, besides this server's own subprotocol."""

    schemes: tuple[str, ...] = ()
    """The word before it in `Authorization`, or offered as a subprotocol before it."""
    headers: tuple[str, ...] = ()
    in_address: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A WebSocket's path → names in its query, where clients in browsers put it."""

    def __or__(self, other: KeyPlaces) -> KeyPlaces:
        return KeyPlaces(
            self.schemes + other.schemes,
            self.headers + other.headers,
            {**self.in_address, **other.in_address},
        )


EVERYWHERE = KeyPlaces(schemes=("bearer",), headers=("x-api-key",))
"""Where every client may put its key."""


class HostMiddleware:
    """Checks the name by which a browser reaches this server. This is the defense against DNS
    rebinding, in which a stranger's page makes its own name lead to this server and so has the same
    origin. Only browsers are checked, because no other program runs a page's code, and only if no
    keys are needed."""

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str], keys: KeyRing
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = frozenset((*hosts, socket.gethostname().lower()))
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A page that came by a forged name has no key.
        if scope["type"] in ("http", "websocket") and not self._keys.is_needed:
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if self._may_be_rebound(headers) and not self._is_allowed(host):
                problem = ForbiddenHost(
                    f"this server is not known as {host[:100]!r} to browsers; "
                    "its operator can allow it with --allow-host"
                )
                await refuse(scope, receive, send, problem)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        name = (_host_port(host, "http") or ("", None))[0].lower().rstrip(".")
        return "*" in self._hosts or name in self._hosts or is_private_name(name)

    def _may_be_rebound(self, headers: Headers) -> bool:
        """Whether the request is a browser's, from a page or a link without TLS: a rebound name
        leads to plain HTTP, because it has no certificate here. A page can neither forge `Origin`
        nor add `Sec-Fetch-…`, which browsers send with TLS and to localhost only."""
        if (origin := headers.get("origin")) is not None:
            is_listed = "*" in self._origins or origin.lower() in self._origins
            return not (is_listed or origin.lower().startswith("https://"))
        if any(name.startswith("sec-fetch-") for name in headers):
            return False
        return headers.get("user-agent", "").startswith("Mozilla/") or "accept-language" in headers


def is_private_name(name: str) -> bool:
    """Whether no stranger can own the name in the DNS: it is an address, has no dot, or is below a
    domain that is reserved for private networks."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name != "" and ("." not in name or name.endswith(_PRIVATE_DOMAINS))
    return True


class OriginMiddleware:
    """Allows requests of browsers only from pages of the same host or of the allow-list."""

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
        is_page = scheme.lower() in ("http", "https")
        return is_page and own is not None and _host_port(authority, scheme) == own


def _host_port(authority: str, scheme: str) -> tuple[str, int | None] | None:
    """A host header or an origin's host, with the scheme's default port if none is written."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, port if port is not None else _DEFAULT_PORTS.get(scheme.lower())


class KeyMiddleware:
    """If keys are configured, everything except the probes and the page needs one of them. The ASGI
    scope then says who is calling (`keys/caller.py`).

    A WebSocket to a path that `takes_key` may bring the key in a message: it then shows it to
    `missing_key`.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        places: KeyPlaces = EVERYWHERE,
        takes_key: Callable[[str], bool] = lambda _: False,
        scopes_needed: Callable[[Scope], Collection[str]] = lambda _: (),
        guesses: Guesses | None = None,
    ) -> None:
        """If a route needs scopes, the caller must have one of them."""
        self._guesses = guesses or Guesses()
        self._app = app
        self._keys = keys
        self._places = places
        self._takes_key = takes_key
        self._scopes_needed = scopes_needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                caller = self._find_caller(scope)
            except UnknownKey as problem:
                is_burst = await self._guesses.answer_late(_address_of(scope))
                await refuse(scope, receive, send, problem, is_logged=not is_burst)
                return
            except Unauthorized as problem:
                await refuse(scope, receive, send, problem)
                return
            scope = with_caller(scope, caller)
            with acting(caller):
                await self._serve(caller, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _serve(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        if caller is not STRANGER:
            try:
                self._check_scope(scope, caller)
            except ScopeTooSmall as problem:
                await refuse(scope, receive, send, problem)
                return
        elif scope["type"] == "websocket":
            scope[_MISSING_KEY] = MissingKey(
                functools.partial(self._let_in, scope),
                functools.partial(self._guesses.answer_late, _address_of(scope)),
            )
        await self._app(scope, receive, send)

    def _find_caller(self, scope: Scope) -> Caller:
        """Return who is calling. A stranger needs no key, or may show it later. Raises
        `Unauthorized`."""
        if not self._keys.is_needed:
            return ANONYMOUS
        if _is_open(scope):
            return STRANGER
        offered = offered_key(scope, self._places)
        if offered is None and scope["type"] == "websocket" and self._takes_key(scope["path"]):
            return STRANGER
        if offered is None:
            raise Unauthorized(f"no API key was sent; {_HOW_TO_SEND}")
        try:
            return self._keys.find(offered)
        except Unauthorized as problem:
            problem.message += f"; {_HOW_TO_SEND}"
            raise

    def _check_scope(self, scope: Scope, caller: Caller) -> None:
        """Raises `ScopeTooSmall`."""
        if caller.is_administrator:
            return
        if needed := self._scopes_needed(scope):
            caller.require(*needed)

    def _let_in(self, scope: Scope, key: str) -> None:
        """From now on the open connection belongs to this key. Raises `Unauthorized` and
        `ScopeTooSmall`."""
        caller = self._keys.find(key)
        self._check_scope(scope, caller)
        become(caller)


@dataclass(frozen=True)
class MissingKey:
    """The key of a connection that still has to send it in a message."""

    show: Callable[[str], None]
    """Lets the key's owner in. Raises `Unauthorized`, and `ScopeTooSmall`."""
    answer_late: Callable[[], Awaitable[bool]]
    """Waits before a client is told that its key is wrong (`UnknownKey`)."""


def missing_key(scope: Scope) -> MissingKey | None:
    """The `MissingKey` of a connection that still has to send its key, else None."""
    missing: MissingKey | None = scope.get(_MISSING_KEY)
    return missing


def _address_of(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_open(scope: Scope) -> bool:
    return scope["type"] == "http" and is_open_path(scope["path"], scope["method"])


def is_open_path(path: str, method: str) -> bool:
    """Whether a request needs no key."""
    is_page = path == PAGE_PATH or path.startswith(WEB_PREFIX)
    return path in OPEN_PATHS or (is_page and method in ("GET", "HEAD", "OPTIONS"))


def offered_key(scope: Scope, places: KeyPlaces) -> str | None:
    """The key that a request carries, from any of the places for it."""
    return _key_in_headers(Headers(scope=scope), places) or _key_in_address(scope, places)


def _key_in_headers(headers: Headers, places: KeyPlaces) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() in places.schemes and token.strip():
        return token.strip()
    for name in places.headers:
        if key := headers.get(name, "").strip():
            return key
    offered = ",".join(headers.getlist("sec-websocket-protocol"))
    protocols = [name.strip() for name in offered.split(",")]
    if len(protocols) > 1 and protocols[0].lower() in places.schemes:
        return protocols[1]
    for name in protocols:
        if name.startswith(KEY_SUBPROTOCOL_PREFIX):
            encoded = name[len(KEY_SUBPROTOCOL_PREFIX) :]
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                return None
    return None


def _key_in_address(scope: Scope, places: KeyPlaces) -> str | None:
    names = places.in_address.get(scope["path"], ()) if scope["type"] == "websocket" else ()
    query = QueryParams(scope["query_string"])
    return next((query[name] for name in names if query.get(name)), None)


def choose_subprotocol(
    offered: Iterable[str], schemes: Collection[str] = EVERYWHERE.schemes
) -> str | None:
    """The subprotocol to accept: a browser that offered some fails without one of them."""
    names = list(offered)
    if SUBPROTOCOL in names:
        return SUBPROTOCOL
    if names and names[0].lower() in schemes:
        return names[0]
    return next((name for name in names if name.startswith(KEY_SUBPROTOCOL_PREFIX)), None)


async def refuse(
    scope: Scope, receive: Receive, send: Send, problem: WireError, *, is_logged: bool = True
) -> None:
    """Answer with the error as an HTTP response; a WebSocket is not upgraded."""
    prefix = "websocket." if scope["type"] == "websocket" else ""
    body = json.dumps(error_body_of(scope)(problem)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if isinstance(problem, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(problem, OverCapacity):
        headers.append((b"retry-after", str(math.ceil(problem.retry_after_ms / 1000)).encode()))
    for name, value in error_headers_of(scope)(problem).items():
        headers.append((name.encode(), value.encode()))
    start = {
        "type": prefix + "http.response.start",
        "status": problem.http_status,
        "headers": headers,
    }
    await send(start)
    await send({"type": prefix + "http.response.body", "body": body})
    if is_logged:
        log_refusal(scope, problem.code)


def log_refusal(scope: Scope, code: str) -> None:
    # The raw path has no query and no line breaks.
    path = scope["raw_path"][:200].decode("ascii", "replace")
    facts = {"type": scope["type"], "code": code, "path": path}
    if (name := current_caller().name) is not None:
        facts["key"] = name
    log.info("refused", extra=facts)


def plain_refusal(problem: WireError) -> bytes:
    """A whole HTTP response, for errors before there is an application."""
    body = json.dumps(error_body(problem)).encode()
    status = http.HTTPStatus(problem.http_status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    retry = "Retry-After: 1\r\n" if problem.retryable else ""
    return f"{head}{retry}\r\n".encode() + body
