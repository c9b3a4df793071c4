from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request

import pytest
from websockets.exceptions import InvalidStatus

from servers import open_socket, running_server
from tts_provider.server.auth import OriginMiddleware, choose_subprotocol

KEY = "k-3cr3t/+"


def subprotocol(key: str) -> str:
    return "tts-provider.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"additional_headers": {"authorization": f"bearer {KEY}"}},
        {"additional_headers": {"X-API-Key": KEY}},
        {"subprotocols": [subprotocol(KEY)]},
        {"subprotocols": ["tts-provider", subprotocol(KEY)]},
    ],
)
async def test_a_valid_key_comes_in(options):
    async with running_server(api_keys="other," + KEY) as server:
        async with open_socket(server, **options) as socket:
            # A browser gives up unless one of the subprotocols it offered is chosen.
            assert (socket.subprotocol is not None) == ("subprotocols" in options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"additional_headers": {"Authorization": f"Basic {KEY}"}},
        {"additional_headers": {"Authorization": "Bearer "}},
        {"additional_headers": {"X-API-Key": "é"}},
        {"subprotocols": [subprotocol("wrong")]},
        {"subprotocols": ["tts-provider.key.!!!"]},
    ],
)
async def test_without_one_it_is_401_before_the_upgrade(options):
    async with running_server(api_keys=KEY) as server:
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(server, **options):
                pass
        assert caught.value.response.status_code == 401
        error = json.loads(caught.value.response.body)["error"]
        assert error["code"] == "unauthorized"
        assert KEY not in error["message"]


async def get(server, path: str, headers: dict[str, str] | None = None):
    import asyncio

    def fetch():
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status, dict(reply.headers), reply.read()
        except urllib.error.HTTPError as reply:
            with reply:
                return reply.code, dict(reply.headers), reply.read()

    return await asyncio.to_thread(fetch)


async def test_probes_are_open_and_the_rest_is_not():
    async with running_server(api_keys=KEY) as server:
        assert (await get(server, "/health"))[0] == 200
        assert (await get(server, "/ready"))[0] == 200
        assert (await get(server, "/"))[0] == 200
        status, headers, body = await get(server, "/metrics")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert (await get(server, "/metrics", {"X-API-Key": KEY}))[0] == 200


async def test_a_foreign_page_gets_403_on_socket_and_http():
    async with running_server() as server:
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(server, origin="https://evil.example"):
                pass
        assert caught.value.response.status_code == 403
        assert json.loads(caught.value.response.body)["error"]["code"] == "forbidden_origin"
        assert (await get(server, "/metrics", {"Origin": "null"}))[0] == 403


async def test_the_same_host_and_the_allow_list_come_in():
    async with running_server(allow_origins="https://app.example") as server:
        for origin in (f"http://127.0.0.1:{server.port}", "https://app.example"):
            async with open_socket(server, origin=origin):
                pass
        status, headers, _ = await get(server, "/health", {"Origin": "https://app.example"})
        assert status == 200
        assert headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://tts.example", "tts.example", True),
        ("https://tts.example:443", "tts.example", True),
        ("http://tts.example", "tts.example:80", True),
        ("http://TTS.example:8765", "tts.example:8765", True),
        ("http://[::1]:8765", "[::1]:8765", True),
        ("http://tts.example:1", "tts.example:2", False),
        ("http://tts.example.evil", "tts.example", False),
        ("null", "tts.example", False),
        ("http://", "", False),
        ("http://a:b:c", "a:b:c", False),
    ],
)
def test_what_counts_as_the_same_host(origin, host, allowed):
    assert OriginMiddleware(None, [])._is_allowed(origin, host) is allowed


def test_the_plain_subprotocol_is_preferred_so_that_no_key_is_echoed():
    assert choose_subprotocol([subprotocol("k"), "tts-provider"]) == "tts-provider"
    assert choose_subprotocol(["chat"]) is None
