"""What clients in the field do to addresses, headers and bodies, and mean no harm by it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from websockets.asyncio.client import connect

from servers import ask, open_socket, receive, running_server, send

SPEECH = "/v1/audio/speech"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
REQUEST = {"input": "Hi.", "response_format": "pcm"}


def client_of(server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}")


async def post(client: httpx2.AsyncClient, content: bytes, media_type: str | None) -> Any:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return await client.post(SPEECH, content=content, headers=headers)


BODY = json.dumps(REQUEST).encode()


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (BODY, None),
        (BODY, ""),
        (BODY, "Application/JSON; charset=utf-8"),
        (b"\xef\xbb\xbf" + BODY, JSON),
        (BODY, "text/plain;charset=UTF-8"),
        (BODY, FORM),
        (b"\xef\xbb\xbf" + BODY, FORM),
        (b"\n " + BODY, FORM),
        (BODY, "application/vnd.api+json"),
        (urlencode(REQUEST).encode(), FORM),
        (b"input=Hi%2E&response_format=pcm&speed=&voice=&seed=7&top_k=50", FORM),
        (json.dumps({**REQUEST, "voice": "", "response_format": "PCM"}).encode(), JSON),
        (json.dumps({**REQUEST, "voice": "MALE", "speed": "1"}).encode(), JSON),
    ],
)
async def test_bodies_that_say_the_same(content, media_type):
    async with running_server() as server, client_of(server) as client:
        reply = await post(client, content, media_type)
        assert reply.status_code == 200, reply.text
        assert reply.content == (await post(client, BODY, JSON)).content


async def test_a_form_in_parts():
    async with running_server() as server, client_of(server) as client:
        parts = {name: (None, value) for name, value in {**REQUEST, "speed": "1.0"}.items()}
        reply = await client.post(SPEECH, files=parts)
        assert reply.status_code == 200, reply.text
        assert reply.content == (await post(client, BODY, JSON)).content


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"input=%FF", FORM, 400, "invalid_form"),
        (b"&".join([b"a=b"] * 100), FORM, 400, "invalid_form"),
        (b"input=", FORM, 400, "no_text"),
        (b"voice=male", FORM, 400, "no_text"),
        (b"input=Hi&speed=fast", FORM, 400, "invalid_type"),
        (b"input=Hi&seed=1.5", FORM, 400, "invalid_value"),
        (b"Hi.", "text/plain", 400, "invalid_json"),
        (b"--x", "multipart/form-data; boundary=x", 400, "invalid_form"),
        (b"x" * 310_000, FORM, 413, "body_too_large"),
    ],
)
async def test_bodies_that_say_nothing(content, media_type, status, code):
    async with running_server() as server, client_of(server) as client:
        reply = await post(client, content, media_type)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("how", ["escaped", "plain", "form"])
@pytest.mark.parametrize("character", ["я", "你", "😀"])
async def test_twenty_thousand_characters_of_any_script(character, how):
    body = {**REQUEST, "input": "Hi. " + character * 19_996}
    content = urlencode(body) if how == "form" else json.dumps(body, ensure_ascii=how == "escaped")
    media_type = FORM if how == "form" else JSON
    # As long as 20 000 characters of Chinese are: an hour.
    async with running_server(max_reply_audio_s=7200) as server, client_of(server) as client:
        headers = {"Content-Type": media_type}
        asked = client.stream("POST", SPEECH, content=content.encode(), headers=headers)
        async with asked as reply:
            assert reply.status_code == 200


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/v1/models", "/metrics", "/", "/web/app.js"]
)
async def test_head_is_get_without_its_body(path):
    async with running_server() as server, client_of(server) as client:
        head, get = await client.head(path), await client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":  # which counts what passed between
            assert head.headers["content-length"] == get.headers["content-length"]


async def test_head_of_what_is_not_there():
    async with running_server() as server, client_of(server) as client:
        assert (await client.head("/nothing")).status_code == 404
        assert (await client.head(SPEECH)).status_code == 405


@pytest.mark.parametrize("settings", [{}, {"api_keys": "k"}])
async def test_options(settings):
    async with running_server(**settings) as server, client_of(server) as client:
        reply = await client.options("/")
        assert (reply.status_code, reply.content) == (204, b"")


async def test_a_preflight_for_a_private_network():
    origin = "https://example.com"
    async with running_server(allow_origins=origin) as server, client_of(server) as client:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Private-Network": "true",
        }
        reply = await client.options(SPEECH, headers=headers)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-private-network"] == "true"
        reply = await client.options(SPEECH, headers={**headers, "Origin": "https://other.com"})
        assert reply.status_code == 403


@pytest.mark.parametrize("path", ["//v1/models", "/v1//models/", "/v1/models///", "///health"])
async def test_slashes_too_many(path):
    async with running_server() as server, client_of(server) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}{path}")).status_code == 200


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/", "//", "/metrics/"])
async def test_slashes_open_no_door(path):
    async with running_server(api_keys="k") as server, client_of(server) as client:
        url = f"http://127.0.0.1:{server.port}{path}"
        assert (await client.post(url)).status_code == 401
        assert (await client.get(url)).status_code == (200 if path == "//" else 401)


async def test_a_session_has_its_limit_behind_any_slashes():
    async with running_server() as server:
        url = f"ws://127.0.0.1:{server.port}//v1/stream/"
        async with connect(url, compression=None, max_size=None) as socket:
            assert (await receive(socket))["type"] == "session.created"
            await send(socket, type="context.append_audio", context_id="c", text="x" * 400_000)
            assert (await receive(socket))["code"] == "text_too_long"


@pytest.mark.parametrize(
    "fields",
    [
        {"voice": "", "speaker": 1},
        {"voice": "Female"},
        {"voice": "NOVA"},
        {"voice": "21M00Tcm4TlvDq8ikWAM"},
        {"speaker": "1"},
        {"speaker": 1, "format": "WAV"},
        {"speaker": 1, "speed": "1.0"},
    ],
)
async def test_the_seed_s_endpoint(fields):
    async with running_server() as server, open_socket(server) as socket:
        wanted = await ask(socket, text="Hi.", speaker=1)
        audio = await receive(socket)
        assert await ask(socket, text="Hi.", **fields) == wanted
        assert await receive(socket) == audio
        await socket.send("\ufeff" + json.dumps({"text": "Hi.", "speaker": 1}))
        assert await receive(socket) == wanted
        assert await receive(socket) == audio


async def test_an_operator_s_alias_is_found_in_any_case_too():
    aliases = {"Anna": "female", "alloy": "male"}
    async with running_server(voice_aliases=aliases) as server:
        find = server.service.find_voice
        assert (find("ANNA", None).id, find("Alloy", None).id) == ("female", "male")
        assert find("  ", None).id == "male"
