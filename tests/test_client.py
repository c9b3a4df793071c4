"""Both clients against real servers: they speak, stream, reconnect, and say what is wrong."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import ears
import tts_provider
from servers import SteppedEngine, open_socket, receive, running_server, send, server_process
from tts_provider import (
    AsyncTTSClient,
    ConnectionFailed,
    RequestFailed,
    ServerBusy,
    TTSClient,
)


def test_the_public_names():
    assert set(tts_provider.__all__) <= set(dir(tts_provider.client)) | {"__version__"}
    for name in tts_provider.__all__:
        assert getattr(tts_provider, name)


def url_of(server) -> str:
    return f"ws://127.0.0.1:{server.port}"


def test_the_blocking_client(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        wav = client.speak("one two three")
        samples, rate = ears.read_wav(wav)
        assert ears.hear_digits(samples, rate) == ["one", "two", "three"]
        pieces = list(client.stream("one two three"))
        assert len(pieces) > 2
        assert b"".join(pieces) == wav[44:]
        assert client.info()["engine"] == "espeak"
        with pytest.raises(RequestFailed, match="No text provided") as caught:
            client.speak("")
        assert caught.value.code == "no_text"
        assert client.speak("Still good.")


def test_a_stream_that_is_dropped_does_not_disturb_the_next(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        for _ in client.stream("A long text. " * 200):
            break
        assert client.info()["engine"] == "espeak"


async def test_the_asyncio_client():
    async with running_server() as server, AsyncTTSClient(url_of(server)) as client:
        wav = await client.speak("four five six")
        samples, rate = ears.read_wav(wav)
        assert ears.hear_digits(samples, rate) == ["four", "five", "six"]
        pieces = [piece async for piece in client.stream("four five six")]
        assert b"".join(pieces) == wav[44:]
        with pytest.raises(RequestFailed) as caught:
            await client.speak("hi", voice="nobody")
        assert caught.value.code == "unknown_voice"
        async with aclosing(client.stream("A long text. " * 200)) as audio:
            assert await anext(audio)
        assert (await client.info())["queue"]["active"] == 0


async def test_a_connection_closed_for_idleness_is_opened_again():
    async with running_server(idle_timeout_s=0.05) as server:
        async with AsyncTTSClient(url_of(server)) as client:
            await client.info()
            assert client._socket is not None
            await client._socket.wait_closed()
            assert await client.speak("Back again.")


async def test_a_busy_server_is_asked_again():
    engine = SteppedEngine()
    async with running_server(engine, max_streams=1, max_queued_requests=0) as server:
        async with open_socket(server) as busy, AsyncTTSClient(url_of(server)) as client:
            await send(busy, text="Occupied. " * 50, stream=True, request_id="o")
            engine.allow(1)
            await receive(busy)
            speaking = asyncio.create_task(client.speak("Patience."))
            while not turned_away(server):
                await asyncio.sleep(0)
            await send(busy, command="cancel", request_id="o")
            engine.allow()
            assert await speaking


def turned_away(server) -> bool:
    return 'tts_errors_total{code="over_capacity"}' in server.service.metrics.render().decode()


async def test_a_server_that_stays_busy_is_an_error_in_the_end():
    async with running_server(SteppedEngine(), max_streams=1, max_queued_requests=0) as server:
        async with open_socket(server) as busy:
            await send(busy, text="Occupied.", request_id="o")
            while not server.service.admission.active:
                await asyncio.sleep(0)
            async with AsyncTTSClient(url_of(server), attempts=1) as client:
                with pytest.raises(ServerBusy, match="all 1 streams are busy"):
                    await client.speak("No chance.")


async def test_a_restarting_server_is_waited_for(tmp_path):
    async with AsyncTTSClient("ws://127.0.0.1:1") as client:
        with server_process(tmp_path) as first:
            client._url = url_of(first)
            await client.info()
            first.terminate()
            await asyncio.to_thread(first.wait)
        speaking = asyncio.create_task(client.speak("I am back."))
        with server_process(tmp_path, "--port", str(first.port)):
            assert await speaking


async def test_what_a_client_says_when_it_cannot_connect(unused_tcp_port):
    cases = {
        f"ws://127.0.0.1:{unused_tcp_port}": "cannot reach",
        "http://127.0.0.1": "is not a ws:// or wss:// address",
    }
    for url, message in cases.items():
        with pytest.raises(ConnectionFailed, match=message):
            TTSClient(url, attempts=1).info()
        with pytest.raises(ConnectionFailed, match=message):
            await AsyncTTSClient(url, attempts=1).speak("hi")
    async with running_server(api_keys="k") as server:
        with pytest.raises(ConnectionFailed, match=r"refused the connection \(401\).*no API key"):
            await AsyncTTSClient(url_of(server)).info()
        async with AsyncTTSClient(url_of(server), api_key="k") as client:
            assert await client.info()


def test_attempts_must_be_positive():
    with pytest.raises(ValueError, match="attempts"):
        TTSClient(attempts=0)
