from __future__ import annotations

import json

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from servers import ask, open_socket, receive, running_server

from .transport.test_auth import get


async def test_index_says_where_to_connect():
    async with running_server() as server:
        status, _, body = await get(server, "/")
        assert status == 200
        assert f"ws://127.0.0.1:{server.port}/" in body.decode()


async def test_metrics_count_requests_errors_and_audio():
    async with running_server() as server, open_socket(server) as socket:
        await ask(socket, text="one two three")
        await receive(socket)
        await ask(socket, text="")
        status, headers, body = await get(server, "/metrics")
        assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
        values = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if line[0] != "#")
        assert values['tts_requests_total{endpoint="basic",outcome="spoken"}'] == "1.0"
        assert values['tts_errors_total{code="no_text"}'] == "1.0"
        assert values["tts_connections"] == "1.0"
        assert values["tts_ready"] == "1.0"
        assert values["tts_active_streams"] == values["tts_queued_requests"] == "0.0"
        assert values["tts_time_to_first_audio_seconds_count"] == "1.0"
        assert 0.5 < float(values["tts_audio_seconds_total"]) < 3
        assert values["tts_real_time_factor_count"] == "1.0"


@pytest.mark.parametrize(("path", "code"), [("/nowhere", "not_found"), ("/ready/x", "not_found")])
async def test_unknown_paths_are_404_in_one_shape(path, code):
    async with running_server() as server:
        status, _, body = await get(server, path)
        assert (status, json.loads(body)["error"]["code"]) == (404, code)


async def test_a_socket_on_an_unknown_path_is_404():
    async with running_server() as server:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://127.0.0.1:{server.port}/v2/stream"):
                pass
        assert caught.value.response.status_code == 404
        assert "/v2/stream" in json.loads(caught.value.response.body)["error"]["message"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/audio/speech", {"POST"}),
        ("/v1/audio/words", {"POST"}),
        ("/v1/audio/voices", {"GET", "HEAD", "POST"}),
        ("/v1/audio/voices/x", {"DELETE", "PATCH"}),
    ],
)
async def test_a_method_that_a_path_does_not_take(path, methods):
    async with running_server() as server, httpx2.AsyncClient() as client:
        reply = await client.put(f"http://127.0.0.1:{server.port}{path}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
        assert set(reply.headers["allow"].split(", ")) == methods


@pytest.mark.parametrize(
    ("asked", "there_is"),
    [
        ("/audio/speech", "/v1/audio/speech"),
        ("/v1/v1/audio/speech", "/v1/audio/speech"),
        ("/models", "/v1/models"),
        ("/v1/health", "/health"),
        ("/v1/tts/bytes", "/tts/bytes"),
        ("/audio/nothing", None),
        ("/v1/v1", None),
    ],
)
async def test_a_path_without_v1_or_with_it_twice(asked, there_is):
    async with running_server() as server, httpx2.AsyncClient() as client:
        reply = await client.post(f"http://127.0.0.1:{server.port}{asked}", json={"input": "a"})
        message = reply.json()["error"]["message"]
        meant = f"; this server has {there_is}" if there_is else ""
        assert (reply.status_code, message) == (404, f"Not Found: POST {asked}{meant}")


@pytest.mark.parametrize(
    ("asked", "there_is"),
    [("/stream", "/v1/stream"), ("/v1/v1/stream", "/v1/stream"), ("/v1/nothing", "/")],
)
async def test_a_websocket_without_v1_or_with_it_twice(asked, there_is):
    async with running_server() as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{server.port}{asked}")
        body = json.loads(refused.value.response.body)
        assert body["error"]["message"].endswith(f"; the endpoint is {there_is}")
