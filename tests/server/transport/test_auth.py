from __future__ import annotations

import asyncio
import base64
import json
import socket
import urllib.error
import urllib.request

import pytest
from websockets.exceptions import InvalidStatus

from frames import upgrade
from servers import open_socket, running_server
from tts_provider.keys.caller import ANONYMOUS, STRANGER, caller_of, current_caller
from tts_provider.keys.guesses import FREE_TRIES, Guesses
from tts_provider.keys.ring import KeyRing
from tts_provider.server.transport.address import AddressMiddleware
from tts_provider.server.transport.auth import (
    KeyMiddleware,
    OriginMiddleware,
    choose_subprotocol,
)

KEY = "k-3cr3t/+"


def subprotocol(key: str) -> str:
    return "tts-provider.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"additional_headers": {"authorization": f"bearer {KEY}"}},
        {"additional_headers": {"X-API-Key": KEY}},
        {"additional_headers": {"Authorization": f"Token {KEY}"}},
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
        ("ftp://localhost:8765", "localhost:8765", False),
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
async def test_what_counts_as_the_same_host(origin, host, allowed):
    let_in, sent = [], []

    async def serve(scope, receive, send):
        let_in.append(scope)

    async def send(message):
        sent.append(message)

    headers = [(b"origin", origin.encode()), (b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": headers}
    await AddressMiddleware(OriginMiddleware(serve, []), [])(scope, None, send)
    assert bool(let_in) is allowed
    assert [message.get("status") for message in sent] == ([] if allowed else [403, None])


def test_the_plain_subprotocol_is_preferred_so_that_no_key_is_echoed():
    assert choose_subprotocol([subprotocol("k"), "tts-provider"]) == "tts-provider"
    assert choose_subprotocol(["chat"]) is None


BROWSER = {"user-agent": "Mozilla/5.0", "accept-language": "en"}
EVIL = "evil.example:8765"


async def ask_by_name(server, host: str, **headers: str) -> tuple[int, str | None]:
    """Status and code of an answer to who calls the server by that name."""

    def fetch() -> tuple[int, str | None]:
        url = f"http://127.0.0.1:{server.port}/v1/models"
        request = urllib.request.Request(url, headers={"Host": host, **headers})
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status, None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]["code"]

    return await asyncio.to_thread(fetch)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example:8765"},
        {"origin": "http://evil.example:8765", **BROWSER},
        {"user-agent": "Mozilla/5.0"},
        {"accept-language": "en"},
    ],
    ids=["origin", "post", "get", "disguised"],
)
async def test_a_page_whose_name_was_led_to_us_is_refused(headers):
    async with running_server() as server:
        assert await ask_by_name(server, EVIL, **headers) == (403, "forbidden_host")


async def test_its_sockets_are_refused_too():
    async with running_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        named = upgrade().replace(b"localhost", EVIL.encode())
        writer.write(named[:-2] + b"Origin: http://evil.example:8765\r\n\r\n")
        assert b" 403 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:8765", {"origin": "http://localhost:8765"}),
        ("127.0.0.1:9999", {"origin": "http://127.0.0.1:9999"}),
        ("[::1]:8765", {"origin": "http://[::1]:8765"}),
        ("192.168.1.7", BROWSER),
        ("tts:8765", {"origin": "http://tts:8765"}),
        ("raspberry.local:8765", BROWSER),
        ("tts.default.svc.cluster.local", {}),
        ("tts.example.com", {"user-agent": "curl/8"}),
        ("tts.example.com", {"origin": "https://tts.example.com", **BROWSER}),
        ("tts.example.com", {"sec-fetch-site": "same-origin", **BROWSER}),
    ],
)
async def test_names_that_no_stranger_has_and_proxies_with_tls_come_in(host, headers):
    async with running_server() as server:
        assert await ask_by_name(server, host, **headers) == (200, None)


async def test_the_machines_own_name_and_the_list_come_in():
    listed = {"allow_hosts": "TTS.example.com, other.example.com"}
    async with running_server(**listed) as server:
        for name in (socket.gethostname(), "tts.example.com", "tts.example.com.:80"):
            assert await ask_by_name(server, name, **BROWSER) == (200, None)
        assert (await ask_by_name(server, EVIL, **BROWSER))[0] == 403
    async with running_server(allow_hosts="*") as server:
        assert await ask_by_name(server, EVIL, **BROWSER) == (200, None)
    async with running_server(allow_origins="http://app.example.com") as server:
        headers = {"origin": "http://app.example.com"}
        assert await ask_by_name(server, "tts.example.com", **headers) == (200, None)


async def test_with_keys_a_name_is_nothing_since_no_page_has_one():
    async with running_server(api_keys=KEY) as server:
        assert await ask_by_name(server, EVIL, **BROWSER) == (401, "unauthorized")
        assert (await ask_by_name(server, EVIL, **BROWSER, **{"x-api-key": KEY}))[0] == 200


async def test_two_subprotocol_headers_are_one_list():
    async with running_server(api_keys=KEY) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        second = f"Sec-WebSocket-Protocol: {subprotocol(KEY)}\r\n".encode()
        first = b"Sec-WebSocket-Protocol: tts-provider\r\n"
        writer.write(upgrade()[:-2] + first + second + b"\r\n")
        assert b" 101 " in await reader.readline()
        writer.transport.abort()


@pytest.mark.parametrize(
    ("keys", "path", "headers", "caller"),
    [
        ([], "/metrics", [], ANONYMOUS),
        ([KEY], "/metrics", [(b"x-api-key", KEY.encode())], ANONYMOUS),
        ([KEY], "/health", [], STRANGER),
    ],
)
async def test_the_application_hears_who_is_calling(keys, path, headers, caller):
    heard = []

    async def app(scope, receive, send):
        heard.append((caller_of(scope), current_caller()))

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    await KeyMiddleware(app, KeyRing(keys))({**scope, "query_string": b""}, None, None)
    assert heard == [(caller, caller)]
    assert current_caller() is ANONYMOUS


async def test_wrong_keys_are_answered_late_and_a_right_one_at_once(caplog):
    """Both come from the same address."""
    caplog.set_level("INFO")
    held, may_go, answers = [], asyncio.Event(), []

    async def sleep(seconds: float) -> None:
        held.append(seconds)
        await may_go.wait()

    async def app(scope, receive, send) -> None:
        answers.append(200)

    async def send(message) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    guarded = AddressMiddleware(
        KeyMiddleware(app, KeyRing([KEY]), guesses=Guesses(sleep=sleep)), []
    )

    def ask(key: str):
        headers = [(b"x-api-key", key.encode())]
        scope = {"type": "http", "method": "GET", "path": "/metrics", "raw_path": b"/metrics"}
        scope |= {"query_string": b"", "headers": headers, "client": ("192.0.2.1", 1)}
        return asyncio.create_task(guarded(scope, None, send))

    tries = [ask("wrong") for _ in range(FREE_TRIES + 5)]
    while len(held) < 5:
        await asyncio.sleep(0)
    assert answers == FREE_TRIES * [401]
    await ask(KEY)
    assert answers == [*FREE_TRIES * [401], 200]
    may_go.set()
    await asyncio.gather(*tries)
    assert answers.count(401) == FREE_TRIES + 5
    told = [record.message for record in caplog.records]
    burst = "4 wrong API keys from 192.0.2.1; more are answered late"
    assert told == [*FREE_TRIES * ["refused"], burst]


async def test_wrong_keys_in_messages_are_counted_too(caplog):
    async with running_server(api_keys=KEY) as server:
        for _ in range(FREE_TRIES + 1):
            path = "v1/text-to-speech/male/stream-input"
            async with open_socket(server, path=path) as socket:
                await socket.send(json.dumps({"text": " ", "xi_api_key": "wrong"}))
                assert "invalid_api_key" in await socket.recv()
    told = [record.message for record in caplog.records if "wrong API keys" in record.message]
    assert told == ["4 wrong API keys from 127.0.0.1; more are answered late"]
