"""A gateway's engine and real replicas, over loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx2
import numpy as np
import pytest

from engines.remote.running import (
    HEAD,
    collect,
    frames_bytes,
    remote_engine,
    running_replica,
    scripted,
    utterance,
)
from servers import PATIENCE_S, SteppedEngine
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import Alive, End, SamplesFrame
from tts_provider.errors import (
    EngineFailed,
    EngineLost,
    InvalidRequest,
    OverCapacity,
    StartupError,
)
from tts_provider.speech.engine import Sound, Utterance, Voice, Word

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
AUDIO = SamplesFrame(np.full(1920, 0.25, np.float32))
LONG_TEXT = "this sentence goes on for a while and does not come to its end soon " * 3


async def until(condition) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), PATIENCE_S)


async def test_a_replica_says_what_it_speaks_with_and_speaks_the_same_samples():
    asked = utterance(seed=7, speed=1.5)
    async with running_replica() as replica, remote_engine(replica.url) as engine:
        here = EspeakEngine()
        for fact in ("name", "model", "device", "precision", "speeds", "takes_prompts"):
            assert getattr(engine, fact) == getattr(here, fact)
        assert list(engine.voices()) == list(here.voices())
        far, near = await collect(engine, asked), await collect(here, asked)
        for one, other in zip(far, near, strict=True):
            assert np.array_equal(one.samples, other.samples)
        counted = replica.metrics.render().decode()
        assert 'tts_passages_total{outcome="spoken"} 1.0' in counted


async def test_words_come_with_the_audio_that_they_are_known_with():
    known = [(), (Word(0, 960, 0, 5),), (), (Word(960, 4000, 6, 11, True),)]

    class Knowing(EspeakEngine):
        async def speak(self, utterance):
            assert utterance.manner.word_times
            for number, words in enumerate(known):
                # The last word is known when all is spoken.
                samples = np.full(1920 if number < 3 else 0, 0.5, np.float32)
                yield Sound(samples, words)

    async with running_replica(Knowing()) as replica, remote_engine(replica.url) as engine:
        chunks = await collect(engine, utterance(word_times=True))
        assert [chunk.words for chunk in chunks] == known
        assert [len(chunk.samples) for chunk in chunks] == [1920, 1920, 1920, 0]


async def test_several_replicas_share_the_work():
    engines = SteppedEngine(), SteppedEngine()
    async with running_replica(engines[0]) as one, running_replica(engines[1]) as other:
        async with remote_engine(one.url, other.url) as engine:
            speaking = [asyncio.create_task(collect(engine, utterance())) for _ in range(6)]
            await until(lambda: one.active == other.active == 3)
            for stepped in engines:
                stepped.allow()
            await asyncio.gather(*speaking)


async def test_an_error_of_the_engine_is_the_same_error_here():
    class Refusing(EspeakEngine):
        async def speak(self, utterance):
            if utterance.text == "broken":
                raise RuntimeError("a fault")
            raise InvalidRequest("too long", code="text_too_long", param="text")
            yield

    async with running_replica(Refusing()) as replica, remote_engine(replica.url) as engine:
        with pytest.raises(InvalidRequest, match="too long") as caught:
            await collect(engine, utterance())
        assert (caught.value.code, caught.value.param) == ("text_too_long", "text")
        with pytest.raises(EngineFailed, match="the replica's log says why"):
            await collect(engine, utterance("broken"))
        await until(lambda: replica.active == 0)


async def test_a_voice_that_is_not_there_names_the_data_folder():
    async with running_replica() as replica, remote_engine(replica.url) as engine:
        voice = Voice("anna-1234", "Anna", "female", "enrolled")
        with pytest.raises(InvalidRequest, match="share one data folder") as caught:
            await collect(engine, Utterance("Hello.", voice))
        assert caught.value.code == "unknown_voice"


async def test_closing_the_iterator_stops_the_replica_within_two_steps():
    stepped = SteppedEngine()
    async with running_replica(stepped) as replica, remote_engine(replica.url) as engine:
        async with contextlib.aclosing(engine.speak(utterance(LONG_TEXT))) as chunks:
            stepped.allow(1)
            await anext(chunks)
        made = stepped.chunks_made
        await until(lambda: replica.active == 0)
        stepped.allow()
        assert stepped.chunks_made <= made + 2
        assert len((await collect(engine, utterance()))[0].samples)


async def test_a_gateway_that_vanishes_frees_its_places():
    stepped = SteppedEngine()
    async with running_replica(stepped) as replica:
        port = int(replica.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"text": LONG_TEXT, "voice": "male"}).encode()
        head = f"POST /speak HTTP/1.1\r\nHost: r\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await until(lambda: stepped.waiting == 1)
        writer.transport.abort()
        await until(lambda: replica.active == 0)


async def test_a_replica_stays_ahead_of_its_listener_by_no_more_than_it_may(monkeypatch):
    slept = []
    sleep = asyncio.sleep

    async def fast_sleep(delay):
        slept.append(delay)
        await sleep(0)

    async with running_replica(alive_s=1000) as replica, remote_engine(replica.url) as engine:
        chunks = await collect(engine, utterance(LONG_TEXT))
        audio_s = sum(len(chunk.samples) for chunk in chunks) / 24_000
        monkeypatch.setattr("tts_provider.engines.remote.exchange.asyncio.sleep", fast_sleep)
        await collect(engine, utterance(LONG_TEXT, ahead_s=1.5))
        monkeypatch.undo()
    paused = [delay for delay in slept if delay < 900]
    # The clock hardly moves: the pauses grow to all that the listener is behind.
    assert audio_s - 1.5 - 1.0 < max(paused) <= audio_s - 1.5


async def test_full_replicas_refuse_what_is_new_and_let_wait_what_was_begun():
    stepped = SteppedEngine()
    async with running_replica(stepped, max_streams=1) as replica:
        async with remote_engine(replica.url) as engine:
            first = asyncio.create_task(collect(engine, utterance()))
            await until(lambda: replica.active == 1)
            with pytest.raises(OverCapacity, match="all 1 streams") as caught:
                await collect(engine, utterance())
            assert caught.value.retry_after_ms == 1000
            begun = asyncio.create_task(collect(engine, utterance(begun=True)))
            stepped.allow()
            assert await first
            assert await begun


async def test_a_full_replica_is_passed_by():
    full, free = SteppedEngine(), EspeakEngine()
    async with running_replica(full, max_streams=1) as one, running_replica(free) as other:
        async with remote_engine(one.url) as only_one, remote_engine(one.url, other.url) as both:
            held = asyncio.create_task(collect(only_one, utterance()))
            await until(lambda: one.active == 1)
            for _ in range(3):
                assert await collect(both, utterance())
            full.allow()
            await held


async def test_a_stream_that_breaks_off_before_its_audio_is_asked_again_once_elsewhere():
    asked = []

    async def break_off(path, writer):
        asked.append(path)
        writer.write(HEAD + frames_bytes(Alive()))
        await writer.drain()

    async with scripted(break_off) as broken, running_replica() as replica:
        async with remote_engine(broken, replica.url) as engine:
            while not asked:
                assert await collect(engine, utterance())
            count = len(asked)
        async with remote_engine(broken) as engine:
            with pytest.raises(EngineLost, match="ended before it had said everything") as caught:
                await collect(engine, utterance())
            assert len(asked) == count + 2
            assert caught.value.retryable
            assert engine.problem is None, "it still says how it is"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (HEAD + frames_bytes(AUDIO), "ended before it had said everything"),
        (HEAD + frames_bytes(AUDIO, AUDIO)[:-5], "ended before it had said everything"),
        (HEAD + frames_bytes(AUDIO) + b"\x63\0\0\0\0", "unknown kind 99"),
        (
            HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 99999\r\n\r\n") + frames_bytes(AUDIO),
            "broke off",
        ),
    ],
)
async def test_a_stream_that_breaks_off_after_audio_is_lost(sent, message):
    asked = []

    async def answer(path, writer):
        asked.append(path)
        writer.write(sent)
        await writer.drain()

    async with scripted(answer) as url, remote_engine(url) as engine:
        with pytest.raises(EngineLost, match=message):
            await collect(engine, utterance())
        assert len(asked) == 1


async def test_silence_is_a_loss_and_a_sign_of_life_is_none():
    stepped = SteppedEngine()

    async def freeze(path, writer):
        writer.write(HEAD + frames_bytes(AUDIO))
        await writer.drain()
        await stop.wait()

    stop = asyncio.Event()
    async with scripted(freeze) as url, remote_engine(url, silence_s=0.2) as engine:
        with pytest.raises(EngineLost, match=r"sent nothing for 0.2 s"):
            await collect(engine, utterance())
        stop.set()
    async with running_replica(stepped, alive_s=0.01) as replica:
        async with remote_engine(replica.url, silence_s=0.2) as engine:
            speaking = asyncio.create_task(collect(engine, utterance()))
            await asyncio.sleep(0.3)  # longer than a silence may be
            stepped.allow()
            assert await speaking


async def test_a_line_before_busy_replicas_is_over_capacity_and_no_loss():
    asked, stop = [], asyncio.Event()

    async def answer(path, writer):
        asked.append(path)
        if len(asked) == 1:  # is spoken; the others wait in a line that says nothing
            writer.write(HEAD)
            while not stop.is_set():
                writer.write(frames_bytes(AUDIO))
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(frames_bytes(End()))
        await stop.wait()

    async with scripted(answer) as url, remote_engine(url, silence_s=0.2) as engine:
        speaking = asyncio.create_task(collect(engine, utterance()))
        await until(lambda: asked)
        with pytest.raises(OverCapacity, match=r"sent nothing for 0.2 s, twice"):
            await collect(engine, utterance())
        assert len(asked) == 3
        assert engine.problem is None
        stop.set()
        assert await speaking


async def test_while_nobody_is_there_requests_are_lost_at_once_and_served_when_somebody_is():
    async with running_replica() as replica:
        port = int(replica.url.rpartition(":")[2])
        engine = RemoteEngine([replica.url])
        await engine.load(print)
        assert await collect(engine, utterance())
    try:
        with pytest.raises(EngineLost, match="no engine can be reached"):
            await collect(engine, utterance())
        assert isinstance(engine.problem, EngineLost)
        assert "cannot be reached" in engine.problem.message
        async with running_replica(port=port):
            await until(lambda: engine.problem is None)
            assert await collect(engine, utterance())
    finally:
        await engine.close()


async def test_it_loads_when_the_first_replica_is_there():
    lines = []
    async with running_replica(is_loaded=False) as replica:
        engine = RemoteEngine(["http://127.0.0.1:1", replica.url])
        loading = asyncio.create_task(engine.load(lines.append))
        await until(lambda: lines)
        assert "http://127.0.0.1:1 cannot be reached" in lines[0]
        assert "still loading its model" in lines[0]
        assert not engine.voices()
        replica.open()
        await asyncio.wait_for(loading, PATIENCE_S)
        assert engine.voices()
        await engine.close()


async def test_a_wrong_key_is_said_at_start_and_the_right_one_is_taken():
    async with running_replica(keys=["secret"]) as replica:
        for key in (None, "wrong"):
            engine = RemoteEngine([replica.url], key)
            with pytest.raises(StartupError, match="--engine-key"):
                await engine.load(print)
            await engine.close()
        async with remote_engine(replica.url, key="secret") as engine:
            assert await collect(engine, utterance())
        async with httpx2.AsyncClient() as client:
            for path in ("/describe", "/metrics"):
                assert (await client.get(replica.url + path)).status_code == 401
            for path in ("/health", "/ready"):
                assert (await client.get(replica.url + path)).status_code == 200


async def test_something_else_at_the_address_is_said_at_start():
    async def page(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        engine = RemoteEngine([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        with pytest.raises(StartupError, match="is no engine of this release"):
            await engine.load(print)
        await engine.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/", b"", 404, "not_found"),
        ("GET", "/speak", b"", 404, "not_found"),
        ("POST", "/speak", b"{}", 400, "invalid_value"),
        ("POST", "/speak", b'{"text": "Hi.", "voice": "nobody"}', 400, "unknown_voice"),
        ("POST", "/speak", b'{"version": 99}', 400, "invalid_value"),
        ("POST", "/listen", b'{"text":"Hi.","speaker":0,"samples":"AAA"}', 400, "invalid_value"),
        ("POST", "/speak", 17 * 1024 * 1024, 413, "body_too_large"),
    ],
)
async def test_what_a_replica_cannot_do_is_a_coded_error(method, path, body, status, code):
    content = bytes(body) if isinstance(body, int) else body  # so many zeros
    async with running_replica() as replica, httpx2.AsyncClient() as client:
        reply = await client.request(method, replica.url + path, content=content)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
        assert replica.active == 0


async def test_a_draining_replica_finishes_and_takes_nothing_new():
    stepped = SteppedEngine()
    async with running_replica(stepped) as replica, remote_engine(replica.url) as engine:
        speaking = asyncio.create_task(collect(engine, utterance()))
        await until(lambda: replica.active == 1)
        replica.drain()
        async with httpx2.AsyncClient() as client:
            reply = await client.get(f"{replica.url}/ready")
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "draining")
            assert reply.headers["retry-after"] == "1"
        with pytest.raises(EngineLost, match="shutting down"):
            await collect(engine, utterance())
        stepped.allow()
        assert await speaking
        await replica.wait_idle()


async def test_the_end_frame_lets_a_connection_be_used_again():
    connections = set()

    async def answer(path, writer):
        connections.add(writer)
        data = frames_bytes(AUDIO, End())
        writer.write(HEAD + data)
        await writer.drain()

    async with scripted(answer) as url, remote_engine(url) as engine:
        for _ in range(2):
            assert len(await collect(engine, utterance())) == 1
        assert len(connections) == 2, "this one closes after each"
    async with running_replica() as replica, remote_engine(replica.url) as engine:
        ports = set()
        start = replica.__call__

        async def watched(scope, receive, send):
            ports.add(scope["client"][1])
            await start(scope, receive, send)

        type(replica).__call__ = lambda self, *args: watched(*args)
        try:
            for _ in range(4):
                assert await collect(engine, utterance())
        finally:
            del type(replica).__call__
        assert len(ports) == 1
