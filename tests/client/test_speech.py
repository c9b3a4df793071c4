"""Both clients against real servers: they speak, stream, reconnect, and say what is wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from websockets.asyncio.server import serve

import decoders
import ears
import tts_provider
from servers import (
    PATIENCE_S,
    SteppedEngine,
    open_socket,
    receive,
    running_server,
    send,
    server_process,
)
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


TIMED = "It is **$5**. Dr. Who?"
TIMED_WORDS = ["It", "is", "$5.", "Dr.", "Who?"]


def test_the_blocking_client_has_the_times_of_words_where_they_are_asked_for(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        wav = client.speak(TIMED, timestamps=True)
        words = client.words
        assert [word.text for word in words] == TIMED_WORDS
        assert [TIMED[word.start : word.end] for word in words] == [
            "It",
            "is",
            "$5**.",
            "Dr.",
            "Who?",
        ]
        samples, rate = ears.read_wav(wav)
        assert words[-1].end_ms <= 1000 * len(samples) // rate
        assert b"".join(client.stream(TIMED, timestamps=True)) == decoders.wav_data(wav)
        assert client.words == words
        assert words is not client.words
        client.info()
        assert client.words == []
        client.speak(TIMED)
        assert client.words == []


async def test_the_async_client_has_the_times_of_words_where_they_are_asked_for():
    async with running_server() as server, AsyncTTSClient(url_of(server)) as client:
        assert await client.speak(TIMED, timestamps=True)
        words = client.words
        assert [word.text for word in words] == TIMED_WORDS
        async with aclosing(client.stream(TIMED, timestamps=True)) as pieces:
            async for _ in pieces:
                known = len(client.words)
        # Of the first sentence, while the second one is heard.
        assert known == 3
        assert client.words == words


def test_the_blocking_client(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        wav = client.speak("one two three")
        samples, rate = ears.read_wav(wav)
        assert ears.hear_digits(samples, rate) == ["one", "two", "three"]
        pieces = list(client.stream("one two three"))
        assert len(pieces) > 2
        assert b"".join(pieces) == decoders.wav_data(wav)
        assert client.info()["engine"] == "hibari"
        with pytest.raises(RequestFailed, match="No text provided") as caught:
            client.speak("")
        assert caught.value.code == "no_text"
        assert client.speak("Still good.")


def test_a_stream_that_is_dropped_does_not_disturb_the_next(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        for _ in client.stream("A long text. " * 200):
            break
        assert client.info()["engine"] == "hibari"


async def test_the_asyncio_client():
    async with running_server() as server, AsyncTTSClient(url_of(server)) as client:
        wav = await client.speak("four five six")
        samples, rate = ears.read_wav(wav)
        assert ears.hear_digits(samples, rate) == ["four", "five", "six"]
        pieces = [piece async for piece in client.stream("four five six")]
        assert b"".join(pieces) == decoders.wav_data(wav)
        with pytest.raises(RequestFailed) as caught:
            await client.speak("hi", voice="nobody")
        assert caught.value.code == "unknown_voice"
        async with aclosing(client.stream("A long text. " * 200)) as audio:
            assert await anext(audio)
        while (await client.info())["queue"]["active"]:
            await asyncio.sleep(0)


class Talker:
    """A server that sends audio without end to hear of, and never answers a closing handshake."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hung_up = asyncio.Event()


@asynccontextmanager
async def talker() -> AsyncIterator[Talker]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        upgrade = (await reader.readuntil(b"\r\n\r\n")).decode()
        (key,) = re.findall(r"(?i)sec-websocket-key: (\S+)", upgrade)
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
        writer.write(b"Connection: Upgrade\r\nSec-WebSocket-Accept: ")
        writer.write(base64.b64encode(digest) + b"\r\n\r\n")
        await reader.read(1)  # a request
        writer.write(b"\x82\x02hi" * 100)  # more than a client takes unasked
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass
        there.hung_up.set()

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    there = Talker(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield there
    finally:
        for writer in writers:
            writer.close()
        server.close()


async def dropping(there: Talker, drop: asyncio.Future) -> None:
    """It is over although nobody answers a closing handshake."""
    await asyncio.wait_for(there.hung_up.wait(), PATIENCE_S)
    await asyncio.wait_for(drop, PATIENCE_S)


@pytest.mark.parametrize("what", ["stream", "client"])
async def test_dropping_a_stream_waits_for_nothing(what):
    async with talker() as there:
        client = AsyncTTSClient(there.url)
        client._options["close_timeout"] = 2 * PATIENCE_S
        audio = client.stream("A long text.")
        assert await anext(audio) == b"hi"
        drop = audio.aclose() if what == "stream" else client.close()
        await dropping(there, asyncio.ensure_future(drop))
        if what == "client":
            with pytest.raises(ConnectionFailed, match="was closed in the middle"):
                await anext(audio)


@pytest.mark.parametrize("what", ["stream", "client"])
async def test_dropping_a_stream_waits_for_nothing_when_blocking(what):
    async with talker() as there:
        client = TTSClient(there.url)
        client._options["close_timeout"] = 2 * PATIENCE_S
        audio = client.stream("A long text.")
        assert await asyncio.to_thread(next, audio) == b"hi"
        drop = audio.close if what == "stream" else client.close
        await dropping(there, asyncio.ensure_future(asyncio.to_thread(drop)))
        if what == "client":
            with pytest.raises(ConnectionFailed, match="was closed in the middle"):
                next(audio)


async def test_two_requests_at_once_are_refused():
    engine = SteppedEngine()
    async with running_server(engine) as server, AsyncTTSClient(url_of(server)) as client:
        audio = client.stream("A long text. " * 20)
        engine.allow(1)
        first = await anext(audio)
        with pytest.raises(RuntimeError, match="in the middle of another request"):
            await asyncio.wait_for(client.speak("Me too."), PATIENCE_S)
        engine.allow()
        assert first + b"".join([piece async for piece in audio])
        assert await client.speak("Now me.")


def test_two_requests_at_once_are_refused_when_blocking(tmp_path):
    with server_process(tmp_path) as server, TTSClient(url_of(server)) as client:
        audio = client.stream("A long text. " * 20)
        first = next(audio)
        with pytest.raises(RuntimeError, match="in the middle of another request"):
            client.speak("Me too.")
        assert len(first + b"".join(audio)) > len(first)
        assert client.speak("Now me.")


async def test_a_stream_left_by_break_does_not_disturb_the_next():
    async with running_server() as server, AsyncTTSClient(url_of(server)) as client:
        async for _ in client.stream("A long text. " * 200):
            break
        assert (await asyncio.wait_for(client.info(), PATIENCE_S))["engine"] == "espeak"
        assert await client.speak("Next.")


async def test_a_client_closed_while_it_waits_does_not_ask_again():
    requests: asyncio.Queue[str] = asyncio.Queue()

    async def never_answer(socket) -> None:
        async for message in socket:
            requests.put_nowait(message)

    async with serve(never_answer, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client, blocking = AsyncTTSClient(url), TTSClient(url)
        for speaking, close in (
            (asyncio.ensure_future(client.speak("hi")), client.close),
            (
                asyncio.ensure_future(asyncio.to_thread(blocking.speak, "hi")),
                lambda: asyncio.to_thread(blocking.close),
            ),
        ):
            await asyncio.wait_for(requests.get(), PATIENCE_S)
            await close()
            with pytest.raises(ConnectionFailed, match="was closed in the middle"):
                await asyncio.wait_for(speaking, PATIENCE_S)
        assert requests.empty()


async def test_a_stream_that_breaks_is_not_begun_again():
    asked = []

    async def break_off(socket) -> None:
        asked.append(await socket.recv())
        await socket.send(b"some audio")
        await socket.close(1012, "restarting")

    async with serve(break_off, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        audio, blocking_audio = AsyncTTSClient(url).stream("hi"), TTSClient(url).stream("hi")
        assert await anext(audio) == b"some audio"
        with pytest.raises(ServerBusy, match="restarting"):
            await anext(audio)
        assert await asyncio.to_thread(next, blocking_audio) == b"some audio"
        with pytest.raises(ServerBusy, match="restarting"):
            await asyncio.to_thread(next, blocking_audio)
    assert len(asked) == 2


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
    malformed = ("ftp://a", "ws://", "ws://a:99999", "ws://a:b", "ws://a..b:1", "ws://[::1")
    cases = {
        f"ws://127.0.0.1:{unused_tcp_port}": "cannot reach",
        **dict.fromkeys(malformed, "is not a ws:// or wss:// address"),
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
