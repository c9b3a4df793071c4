"""The routes, and nothing but the routes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path
from starlette.types import ASGIApp, Scope

from tts_provider import __version__
from tts_provider.errors import EngineFailed, InvalidRequest, WireError
from tts_provider.server.access import scopes_needed
from tts_provider.server.connections.basic import SpeechSocket
from tts_provider.server.connections.pump import DialectSocket
from tts_provider.server.connections.socket import Sockets, WebSocketWire
from tts_provider.server.dialects import APIS, KEYS, detect, jobs, voices
from tts_provider.server.dialects.dialect import Dialect
from tts_provider.server.http import key, page, usage
from tts_provider.server.http.answers import allowed_methods, error_response, meant_path
from tts_provider.server.http.openapi import describe
from tts_provider.server.service.jobs import JobWorker
from tts_provider.server.service.service import SpeechService
from tts_provider.server.transport.address import AddressMiddleware, error_body_of
from tts_provider.server.transport.allowance import AllowanceMiddleware
from tts_provider.server.transport.auth import (
    HostMiddleware,
    KeyMiddleware,
    OriginMiddleware,
    log_refusal,
    missing_key,
)
from tts_provider.voices.store import VoiceStore


def create_app(
    service: SpeechService,
    sockets: Sockets,
    store: VoiceStore,
    worker: JobWorker,
    *,
    allow_origins: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> ASGIApp:
    """The ASGI application: host and origin checks, CORS, key check, routes."""
    keys = service.allowances.keys
    app = FastAPI(title="tts-provider", version=__version__, docs_url=None, redoc_url=None)
    app.openapi = describe(app, keys)  # type: ignore[method-assign]
    for api in APIS:
        if api.create_router is not None:
            app.include_router(api.create_router(service))
        for path, dialect in api.sockets.items():
            app.add_api_websocket_route(path, _endpoint(sockets, dialect))
    app.include_router(voices.create_router(service, store))
    app.include_router(jobs.create_router(service, worker))
    app.include_router(detect.create_router(service))
    app.include_router(key.create_router(service.allowances))
    app.include_router(usage.create_router(service.allowances.counts))
    app.include_router(page.create_router())

    @app.websocket("/")
    async def speak(websocket: WebSocket) -> None:
        await sockets.serve(
            websocket, lambda socket, service: SpeechSocket(WebSocketWire(socket), service)
        )

    @app.get("/health", responses={503: {"description": "Only a restart helps."}})
    async def health() -> Response:
        """The process is alive, and a restart would mend nothing."""
        if service.needs_restart:
            return JSONResponse({"status": EngineFailed.code}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/ready", responses={503: {"description": "Loading, draining, failed, or no engine."}})
    async def ready() -> Response:
        """Requests are served, if need be as soon as the model is loaded again."""
        if service.is_ready:
            model = service.model_state
            return JSONResponse(
                {"status": "ready", **({} if model == "loaded" else {"model": model})}
            )
        admission = service.admission
        problem = service.engine.problem if admission.is_open else admission.refusal
        state = "loading" if problem is None else problem.code
        return JSONResponse({"status": state}, status_code=503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus's text format."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    known = list(app.routes)

    @app.websocket("/{path:path}")
    async def no_such_socket(websocket: WebSocket, path: str) -> None:
        meant = meant_path(known, websocket.scope) or "/"
        message = f"there is no WebSocket at /{path}; the endpoint is {meant}"
        body = _error(websocket.scope, "not_found", message)
        await websocket.send_denial_response(JSONResponse(body, status_code=404))
        log_refusal(websocket.scope, "not_found")

    @app.exception_handler(WireError)
    async def wire_error(request: Request, problem: WireError) -> Response:
        service.count_error(problem)
        return error_response(problem, request.scope)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, problem: RequestValidationError) -> Response:
        first = problem.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        error = InvalidRequest(f"{name}: {first['msg']}", param=name or None)
        return await wire_error(request, error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, problem: HTTPException) -> Response:
        message = f"{problem.detail}: {request.method} {request.url.path}"
        if problem.status_code == 404 and (meant := meant_path(app.routes, request.scope)):
            message += f"; this server has {meant}"
        codes = {404: "not_found", 405: "method_not_allowed"}
        body = _error(request.scope, codes.get(problem.status_code, "http_error"), message)
        headers = problem.headers
        if problem.status_code == 405:
            headers = {"Allow": allowed_methods(app.routes, request.scope)}
        return JSONResponse(body, problem.status_code, headers)

    guarded: ASGIApp = AllowanceMiddleware(app, service.allowances)
    guarded = KeyMiddleware(
        guarded, keys, KEYS, _takes_key, functools.partial(scopes_needed, app.routes)
    )
    if allow_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=allow_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
        )
    guarded = OriginMiddleware(guarded, allow_origins)
    guarded = HostMiddleware(guarded, allow_hosts, allow_origins, keys)
    return AddressMiddleware(guarded, [api.errors for api in APIS if api.errors is not None])


def _takes_key(path: str) -> bool:
    """Whether a WebSocket here may bring its key in a message."""
    return any(
        dialect.takes_key and compile_path(route)[0].match(path)
        for api in APIS
        for route, dialect in api.sockets.items()
    )


def _endpoint(sockets: Sockets, dialect: type[Dialect]) -> Callable[[WebSocket], Awaitable[None]]:
    async def converse(websocket: WebSocket) -> None:
        await sockets.serve(
            websocket,
            lambda socket, service: DialectSocket(
                WebSocketWire(socket),
                service,
                dialect,
                path=socket.path_params,
                query=socket.query_params,
                missing_key=missing_key(socket.scope),
            ),
        )

    return converse


def _error(scope: Scope, code: str, message: str) -> dict[str, object]:
    return error_body_of(scope)(InvalidRequest(message, code=code))
