"""The playground: at `/` a page for browsers and a line of text for programs, and the page's files
under `/web/`. All of it comes from the package; the page asks nobody but its own server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tts_provider import __version__
from tts_provider.server.transport.auth import PAGE_PATH, WEB_PREFIX

_INDEX = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# 'self' takes in WebSockets to the same host and port (CSP level 3, section 6.7.2.8). blob: is a
# recording that is played before it is sent, 'self' a book that was made.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    # Asked for anew each time, so that no page runs with the scripts of another version.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _File:
    data: bytes
    media_type: str
    etag: str


def create_router() -> APIRouter:
    files = _read_files()

    async def index(request: Request) -> Response:
        if accepts_html(request.headers.get("accept", "")):
            return _answer(request, files[_INDEX], {"Vary": "Accept"})
        scheme = "wss" if request.url.scheme == "https" else "ws"
        text = (
            f"tts-provider {__version__}\n"
            f"Connect a WebSocket to {scheme}://{request.url.netloc}/ and send\n"
            '{"text": "Hello"}\n'
        )
        return PlainTextResponse(text, headers={"Vary": "Accept"})

    async def options(_request: Request) -> Response:
        return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS"})

    async def asset(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return _answer(request, file, {})

    router = APIRouter()
    router.add_route(PAGE_PATH, index, ["GET"], include_in_schema=False)
    router.add_route(PAGE_PATH, options, ["OPTIONS"], include_in_schema=False)
    router.add_route(WEB_PREFIX + "{name}", asset, ["GET"], include_in_schema=False)
    return router


def accepts_html(accept: str) -> bool:
    """Whether a browser asks. Programs send */* and want no page."""
    kinds = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return "text/html" in kinds


def _read_files() -> dict[str, _File]:
    files = {}
    for entry in resources.files("tts_provider").joinpath("web").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _MEDIA_TYPES:
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            files[entry.name] = _File(data, _MEDIA_TYPES[suffix], etag)
    return files


def _answer(request: Request, file: _File, more: Mapping[str, str]) -> Response:
    headers = {**_HEADERS, "ETag": file.etag, **more}
    known = request.headers.get("if-none-match", "")
    # RFC 9110 section 13.1.2: a list, compared weakly, or anything at all.
    if known.strip() == "*" or file.etag in (
        tag.strip().removeprefix("W/") for tag in known.split(",")
    ):
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=file.media_type)
