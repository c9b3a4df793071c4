"""A table of scopes against every route and message."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import httpx2
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute
from websockets.exceptions import InvalidStatus

from rows import rows
from servers import ask, open_socket, receive, running_server
from tts_provider.keys.caller import SCOPES
from tts_provider.keys.store import KeyStore
from tts_provider.server import app as app_module
from tts_provider.server.access import NOT_LISTED, ROUTES, scopes_needed
from tts_provider.server.dialects import SOCKETS, native

MESSAGES: tuple[dict[str, object], ...] = (
    {"type": "session.update", "speed": 1.5},
    {"type": "input_text.append", "context_id": "a", "text": "Hello."},
    {"type": "input_text.flush", "context_id": "a"},
    {"type": "context.interrupt", "context_id": "a", "played_ms": 0},
    {"type": "input_text.append", "context_id": "b", "text": "Hello."},
    {"type": "context.cancel", "context_id": "b"},
    {"type": "context.append_audio", "context_id": "c", "text": "Hi.", "audio": "AAAA"},
    {"type": "input_text.append", "context_id": "d", "text": "Hello."},
    {"type": "input_text.end", "context_id": "d"},
)
"""Each that there is at `/v1/stream`."""


def flat(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Method and path of each, also of routers that were included."""
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from flat(router.routes)
        else:
            methods = getattr(route, "methods", None) or {"SOCKET"}
            yield from ((method, route.path) for method in methods if method != "HEAD")


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Iterator[tuple[str, dict[str, str]]]:
    """A data folder, and a key of each scope alone."""
    folder = tmp_path_factory.mktemp("keys")
    with KeyStore(folder) as store:
        yield folder, {scope: store.add(f"only-{scope}", frozenset({scope})) for scope in SCOPES}


async def test_every_route_is_in_the_table_and_nothing_else_is(monkeypatch):
    made = []

    class Watched(FastAPI):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(app_module, "FastAPI", Watched)
    async with running_server() as server:
        assert server.app is not None
    found = {f"{method} {path}" for method, path in flat(made[0].routes)}
    assert found >= {"POST /v1/audio/speech", "SOCKET /v1/stream", "GET /v1/voices"}
    assert found - ROUTES.keys() == set(), "routes without a scope in server/access.py"
    assert ROUTES.keys() - found == set(), "server/access.py has routes that are not there"
    assert set().union(*ROUTES.values()) <= SCOPES.keys()


def test_a_route_that_is_not_listed_is_an_administrators():
    app = FastAPI()

    @app.get("/new")
    async def new() -> None: ...

    def needed(path: str):
        return scopes_needed(app.routes, {"type": "http", "method": "GET", "path": path})

    assert needed("/new") == NOT_LISTED == ("admin",)
    assert needed("/nowhere") == ()


def path_of(row: str) -> tuple[str, str]:
    method, _, path = row.partition(" ")
    return method, path.replace("{voice_id}", "nobody").replace("{voice}", "0").replace(
        "{model:path}", "none"
    ).replace("{name}", "index.html").replace("{path:path}", "nowhere")


async def status_of(server, row: str, key: str) -> tuple[int, str]:
    """The status and the code of an answer to an empty request; 101 is a socket that is open."""
    method, path = path_of(row)
    headers = {"X-API-Key": key}
    if method == "SOCKET":
        try:
            async with open_socket(server, path=path[1:], additional_headers=headers):
                return 101, ""
        except InvalidStatus as refusal:
            body = refusal.response.body.decode()
            return refusal.response.status_code, "scope_too_small" if "scope" in body else ""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        reply = await client.request(method, path, headers=headers)
        return reply.status_code, "scope_too_small" if "lacks the scope" in reply.text else ""


async def test_each_key_does_what_its_scope_says_and_nothing_else(keys):
    folder, secrets = keys
    wrong = []
    async with running_server(data_dir=folder) as server:
        for row, scopes in ROUTES.items():
            for scope, key in secrets.items():
                status, code = await status_of(server, row, key)
                may = not scopes or scope in scopes or scope == "admin"
                is_right = (status != 403 and not code) if may else (status, bool(code)) == (403, 1)
                if not is_right:
                    wrong.append(f"{scope} at {row}: {status}")
    assert wrong == []


@rows("path", sorted({"/", *SOCKETS}))
def test_sockets_need_the_scope_that_all_their_messages_need(path):
    assert ROUTES[f"SOCKET {path}"] == ("speak",)


async def test_messages_are_answered_to_whom_the_socket_is_open(keys):
    folder, secrets = keys
    headers = {"X-API-Key": secrets["speak"]}
    async with running_server(data_dir=folder) as server:
        async with open_socket(server, additional_headers=headers) as socket:
            assert (await ask(socket, command="info"))["status"] == "success"
            assert (await ask(socket, text="Hi."))["status"] == "success"
            assert isinstance(await receive(socket), bytes)
        options = {"path": "v1/stream", "additional_headers": headers}
        async with open_socket(server, **options) as socket:
            await receive(socket)
            assert {message["type"] for message in MESSAGES} == set(native._FIELDS)
            for message in MESSAGES:
                await socket.send(json.dumps(message))
            done = {"type": "context.done", "context_id": "d"}
            while not done.items() <= (message := await receive(socket)).items():
                assert message.get("code") not in ("scope_too_small", "unauthorized")


async def test_a_key_in_a_message_needs_the_scope_too(keys):
    folder, secrets = keys
    async with running_server(data_dir=folder) as server:
        voice = server.service.engine.voices()[0].id
        path = f"v1/text-to-speech/{voice}/stream-input"
        async with open_socket(server, path=path) as socket:
            refusal = await ask(socket, text=" ", xi_api_key=secrets["voices"])
            assert refusal["error"] == "scope_too_small"
        async with open_socket(server, path=path) as socket:
            await socket.send(json.dumps({"text": " ", "xi_api_key": secrets["speak"]}))
            await socket.send(json.dumps({"text": "Hi there. "}))
            await socket.send(json.dumps({"text": ""}))
            assert "audio" in await receive(socket)


async def test_what_follows_a_key_to_a_voice_that_there_is_not_is_passed_over(keys, caplog):
    folder, secrets = keys
    async with running_server(data_dir=folder) as server:
        async with open_socket(server, path="v1/text-to-speech/nobody/stream-input") as socket:
            for message in ({"text": " ", "xi_api_key": secrets["speak"]}, {"text": "Hi. "}):
                await socket.send(json.dumps(message))
            assert (await receive(socket))["error"] == "voice_not_found"
            await socket.wait_closed()
    assert not [record for record in caplog.records if record.exc_info]
