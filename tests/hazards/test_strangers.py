"""Whoever has shown no key keeps nobody out, and learns nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from websockets.exceptions import ConnectionClosed

from servers import PATIENCE_S, open_socket, receive, running_server, send
from tts_provider.server.dialects import SOCKETS

WAYS = ("stream-input", "multi-stream-input")
KEY = {"xi-api-key": "k"}


def open_way(server, way: str, voice: str = "male", query: str = "", **options):
    path = f"v1/text-to-speech/{voice}/{way}?output_format=pcm_24000{query}"
    return open_socket(server, path=path, **options)


async def close_of(socket) -> tuple[list[str], int | None]:
    """All that is still told, and the code of the end."""
    told = []
    try:
        while True:
            told.append(await asyncio.wait_for(socket.recv(), PATIENCE_S))
    except ConnectionClosed as closed:
        return told, closed.rcvd.code if closed.rcvd else None


def test_keys_in_messages_are_asked_of_these():
    takes_key = {path.rsplit("/")[-1] for path, dialect in SOCKETS.items() if dialect.takes_key}
    assert takes_key == set(WAYS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "message",
    [
        *("x", "", "[]", "{}", '{"text": 5}', '{"xi-api-key": 5}', '{"context_id": 5}'),
        '{"close_socket": true}',
        '{"text": "", "xi_api_key": "no"}',
        '{"xi_api_key": "\\ud800"}',
        '{"xi_api_key": "\\udcff"}',
        '{"authorization": "Bearer \\ud83d"}',
        b"k",
        "[" * 100_000,
    ],
)
async def test_whatever_is_no_key_ends_it_at_once(way, message, caplog):
    async with running_server(api_keys="k", handshake_timeout_s=1000.0) as server:
        async with open_way(server, way) as socket:
            await socket.send(message)
            told, code = await close_of(socket)
    assert code == 1008
    (told,) = map(json.loads, told)
    assert told["error"] == "invalid_api_key"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("way", WAYS)
async def test_the_key_may_come_with_a_text_and_before_anything_else(way):
    async with running_server(api_keys="k") as server:
        async with open_way(server, way, query="&inactivity_timeout=180") as socket:
            await send(socket, text=" ", xi_api_key="k", voice_settings={"speed": 1.0})
            await send(socket, text="Two. ", flush=True)
            assert (await receive(socket))["audio"]


async def test_a_few_wait_and_the_oldest_gives_way(caplog):
    limits = {"max_unauthenticated_connections": 3, "handshake_timeout_s": 1000.0}
    async with (
        running_server(api_keys="k", **limits) as server,
        contextlib.AsyncExitStack() as all_,
    ):
        strangers = [await all_.enter_async_context(open_way(server, WAYS[1])) for _ in range(8)]
        for stranger in strangers[:5]:
            assert await close_of(stranger) == ([], None)
        await send(strangers[-1], text="Two. ", flush=True, xi_api_key="k")
        assert (await receive(strangers[-1]))["audio"]


async def test_strangers_take_no_place_of_who_has_a_key():
    limits = {"max_unauthenticated_connections": 2, "max_connections": 1}
    limits |= {"handshake_timeout_s": 1000.0, "wyoming_port": 0}
    async with (
        running_server(api_keys="k", **limits) as server,
        contextlib.AsyncExitStack() as all_,
    ):
        strangers = [await all_.enter_async_context(open_way(server, WAYS[0])) for _ in range(20)]
        _, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        async with open_way(server, WAYS[1], additional_headers=KEY) as socket:
            await send(socket, text="Two. ", flush=True)
            assert (await receive(socket))["audio"]
            # Whoever shows a key now is one of those who have their limit.
            await send(strangers[-1], text="Two. ", xi_api_key="k")
            told, code = await close_of(strangers[-1])
            assert (json.loads(told[0])["error"], code) == ("system_busy", 1013)
        writer.close()


@pytest.mark.slow("20 s: strangers who never answer a close count until they are gone")
async def test_one_that_was_refused_counts_until_it_is_gone():
    """Else each could stay for the time that a goodbye may take."""
    limits = {"max_unauthenticated_connections": 2}
    async with (
        running_server(api_keys="k", **limits) as server,
        contextlib.AsyncExitStack() as all_,
    ):
        for _ in range(6):
            socket = await all_.enter_async_context(open_way(server, WAYS[1]))
            socket.transport.pause_reading()  # it never answers the close
            await socket.send("x")
        while len(server.connections) > 2:
            await asyncio.sleep(0)
        assert len(server.sockets.connections) <= 2


async def test_wyoming_has_a_limit_of_its_own():
    limits = {"max_wyoming_connections": 1, "max_connections": 1, "wyoming_port": 0}
    describe = b'{"type": "describe"}\n'
    async with running_server(**limits) as server, open_socket(server, path="v1/stream") as socket:
        assert (await receive(socket))["type"] == "session.created"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        writer.write(describe)
        assert json.loads(await reader.readline())["type"] == "info"
        late, more = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        refusal = json.loads(await asyncio.wait_for(late.readline(), PATIENCE_S))
        assert refusal["data"]["code"] == "over_capacity"
        writer.close()
        more.close()


async def test_the_voices_are_told_to_nobody_without_a_key():
    async with running_server(api_keys="k") as server:
        for way in WAYS:
            async with open_way(server, way, voice="nobody") as socket:
                await send(socket, text=" ")
                told, code = await close_of(socket)
                assert code == 1008
                assert "male" not in "".join(told)
            async with open_way(server, way, voice="nobody") as socket:
                await send(socket, text=" ", xi_api_key="k")
                told, code = await close_of(socket)
                assert code == 1008
                assert json.loads(told[0])["error"] == "voice_not_found"
                assert "male" in told[0]


async def test_strangers_are_sent_away_when_the_server_stops():
    async with running_server(api_keys="k", handshake_timeout_s=1000.0) as server:
        async with open_way(server, WAYS[1]) as stranger:
            while not server.sockets.strangers:
                await asyncio.sleep(0)
            server.stop()
            assert (await close_of(stranger))[1] == 1012
