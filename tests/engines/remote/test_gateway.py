"""A whole server whose engine is elsewhere: as its clients meet it, and as its operator does."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import aclosing

import httpx2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from engines.remote.running import (
    HEAD,
    ReplicaProcess,
    frames_bytes,
    replica_process,
    running_replica,
    scripted,
)
from engines.remote.test_engine import AUDIO, LONG_TEXT, until
from servers import (
    PATIENCE_S,
    SteppedEngine,
    ask,
    collect_stream,
    open_socket,
    receive,
    run_cli,
    running_server,
    send,
)
from tts_provider.client import AsyncTTSClient
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import End
from tts_provider.speech.engine import Spoken

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
TEXT = "Hello there. I can answer at once! And I go on, too."


async def converse(socket, context_id="c", text=TEXT):
    """One context: the audio and the names of the messages around it."""
    await send(socket, type="input_text.append", context_id=context_id, text=text)
    await send(socket, type="input_text.end", context_id=context_id)
    audio, kinds = bytearray(), []
    while True:
        body = await receive(socket)
        if isinstance(body, bytes):
            audio += body
            continue
        kinds.append(body["type"])
        if body["type"] == "error":
            kinds.append(body["code"])
        if body["type"] == "context.done":
            return bytes(audio), kinds


async def session(server):
    socket = await open_socket(server, path="v1/stream")
    created = await receive(socket)
    await send(socket, type="session.update", audio="binary")
    await receive(socket)
    return socket, created


async def test_every_door_says_what_the_same_server_says_without_a_gateway():
    async with running_replica() as replica:
        remote = RemoteEngine([replica.url])
        async with running_server(remote) as far, running_server() as near:
            heard = []
            for server in (far, near):
                async with open_socket(server) as socket:
                    assert (await ask(socket, text=TEXT, stream=True))["status"] == "streaming"
                    pieces, done = await collect_stream(socket)
                    info = await ask(socket, command="info")
                talk, created = await session(server)
                async with talk:
                    audio, kinds = await converse(talk)
                async with httpx2.AsyncClient() as client:
                    url = f"http://127.0.0.1:{server.port}"
                    body = {"input": TEXT, "response_format": "wav", "speed": 3.0}
                    spoken = await client.post(f"{url}/v1/audio/speech", json=body)
                    models = (await client.get(f"{url}/v1/models")).json()
                    voices = (await client.get(f"{url}/v1/audio/voices")).json()
                for changes in (info, created, done):
                    changes.pop("session_id", None)
                ids = [model["id"] for model in models["data"]]
                stream = b"".join(pieces)
                heard.append(
                    [stream, done, info, created, audio, kinds, spoken.content, ids, voices]
                )
            for one, other in zip(*heard, strict=True):
                assert one == other


async def test_metrics_name_the_replica_and_ready_says_when_none_is_there():
    async with running_replica(name="gpu-1:8766") as replica:
        port = int(replica.url.rpartition(":")[2])
        engine = RemoteEngine([replica.url])
        async with running_server(engine) as server, httpx2.AsyncClient() as client:
            url = f"http://127.0.0.1:{server.port}"
            async with open_socket(server) as socket:
                assert (await ask(socket, text="Hello."))["status"] == "success"
            metrics = (await client.get(f"{url}/metrics")).text
            assert 'tts_remote_streams_total{outcome="spoken",replica="gpu-1:8766"} 1.0' in metrics
            assert f'tts_remote_up{{address="{replica.url}"}} 1.0' in metrics
            assert "tts_ready 1.0" in metrics
            assert (await client.get(f"{url}/ready")).status_code == 200
            engine.replicas._set_aside(next(iter(engine.replicas.addresses)), "is away")
            reply = await client.get(f"{url}/ready")
            assert (reply.status_code, reply.json()) == (503, {"status": "engine_lost"})
            assert "tts_ready 0.0" in (await client.get(f"{url}/metrics")).text
            await until(lambda: engine.problem is None)
            assert (await client.get(f"{url}/ready")).status_code == 200
        assert port


async def test_before_there_is_an_engine_clients_are_told_to_wait_and_then_served():
    async with running_replica(is_loaded=False) as replica:
        engine = RemoteEngine([replica.url])
        async with running_server(engine, is_ready=False) as server:
            async with open_socket(server) as plain, httpx2.AsyncClient() as client:
                assert (await receive(plain))["status"] == "loading"
                await send(plain, text="Hello.")
                url = f"http://127.0.0.1:{server.port}"
                reply = await client.post(f"{url}/v1/audio/speech", json={"input": "Hello."})
                assert (reply.status_code, reply.json()["error"]["code"]) == (503, "loading")
                assert (await client.get(f"{url}/ready")).json() == {"status": "loading"}
                # A session's voices are not known yet.
                with pytest.raises(InvalidStatus) as caught:
                    await open_socket(server, path="v1/stream")
                assert caught.value.response.status_code == 503
                assert caught.value.response.headers["Retry-After"] == "1"
                replica.open()
                assert (await receive(plain))["status"] == "success"
                talk, created = await session(server)
                async with talk:
                    assert [voice["id"] for voice in created["voices"][:2]] == ["male", "female"]
                    assert (await converse(talk))[0]


async def test_a_gateway_without_an_engine_stops_when_it_is_told():
    async with running_server(RemoteEngine(["http://127.0.0.1:1"]), is_ready=False) as server:
        async with open_socket(server) as socket:
            assert (await receive(socket))["status"] == "loading"
            await send(socket, text="Hello.")
            while server.sockets.connections and not server.service.admission._decided._waiters:
                await asyncio.sleep(0)
            server.stop()
            assert (await receive(socket))["code"] == "draining"
            with pytest.raises(ConnectionClosed) as caught:
                await receive(socket)
            assert caught.value.rcvd.code == 1012


class Unlike(SteppedEngine):
    """It never says the same twice, as far as anybody knows."""

    repeats = False


async def lose_one_of_two(stepped, tmp_path, heard_of_the_lost, text=LONG_TEXT):
    """Two sessions, on a replica that is killed and on one of `stepped`, which holds its sound
    back until the first was lost."""
    async with running_replica(stepped) as steady:
        with await asyncio.to_thread(lambda: replica_process(tmp_path)) as process:
            engine = RemoteEngine([steady.url, process.url], hedge_percent=0)
            # The replica stays half a second ahead, so it is in the middle of its passage.
            async with running_server(engine, max_ahead_s=0.5) as server:
                talks = [(await session(server))[0] for _ in range(2)]
                for talk in talks:
                    await send(talk, type="input_text.append", context_id="c", text=text)
                    await send(talk, type="input_text.end", context_id="c")
                await until(lambda: stepped.waiting == 1)
                hearing = [asyncio.create_task(receive(talk)) for talk in talks]
                await asyncio.wait(hearing, return_when=asyncio.FIRST_COMPLETED)
                lost, other = (0, 1) if hearing[0].done() else (1, 0)
                assert not hearing[other].done()
                process.process.kill()
                await heard_of_the_lost(talks[lost])
                stepped.allow()
                assert (await hearing[other])["type"] == "audio.delta"
                for talk in talks:
                    await talk.close()


async def test_a_killed_replica_ends_its_streams_and_nobody_elses(tmp_path):
    stepped = Unlike()

    async def heard(talk):
        while isinstance(body := await receive(talk), bytes) or body["type"] == "audio.delta":
            pass
        assert (body["type"], body["code"]) == ("error", "engine_lost")
        assert body["retryable"]
        assert (await receive(talk))["type"] == "context.done"
        stepped.allow()
        assert (await converse(talk, "again", "Hello."))[0]

    await lose_one_of_two(stepped, tmp_path, heard)


async def test_another_replica_goes_on_where_one_that_repeats_was_killed(tmp_path):
    stepped, sounds = SteppedEngine(), []

    async def heard(talk):
        await until(lambda: stepped.waiting == 2)
        stepped.allow()
        while True:
            body = await receive(talk)
            if isinstance(body, bytes):
                sounds.append(body)
            elif body["type"] != "audio.delta":
                break
        while body["type"] != "context.done":
            assert body["type"] != "error", body
            body = await receive(talk)

    text = "This sentence goes on for a while"
    await lose_one_of_two(stepped, tmp_path, heard, text)
    async with running_server() as near, (await session(near))[0] as talk:
        whole, _ = await converse(talk, text=text)
    assert whole.endswith(rest := b"".join(sounds))
    assert len(rest) > len(whole) // 2, "most of it came from the other one"


async def test_a_frozen_replica_is_found_and_passed_by_until_it_thaws(tmp_path):
    with await asyncio.to_thread(lambda: replica_process(tmp_path)) as process:
        engine = RemoteEngine([process.url], silence_s=0.3)
        async with running_server(engine) as server:
            async with open_socket(server) as socket:
                process.send(signal.SIGSTOP)
                try:
                    reply = await ask(socket, text="Hello.")
                finally:
                    process.send(signal.SIGCONT)
                assert (reply["status"], reply["code"]) == ("error", "engine_lost")
                assert "sent nothing for 0.3 s" in reply["message"]
                await until(lambda: engine.problem is None)
                assert (await ask(socket, text="Hello."))["status"] == "success"


async def test_our_client_asks_again_where_an_engine_was_lost(tmp_path):
    with await asyncio.to_thread(lambda: replica_process(tmp_path)) as process:
        engine = RemoteEngine([process.url])
        async with running_server(engine) as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with AsyncTTSClient(url) as client:
                assert await client.speak("Hello.")
                process.process.kill()
                await asyncio.to_thread(process.process.wait)
                speaking = asyncio.create_task(client.speak("Hello again."))
                await until(lambda: engine.problem is not None)
                back = ReplicaProcess(tmp_path, "--port", process.port)
                try:
                    await asyncio.to_thread(back.wait_ready)
                    assert await asyncio.wait_for(speaking, PATIENCE_S)
                finally:
                    back.process.kill()
                    back.process.wait()
                    back.process.stderr.close()


async def test_in_the_middle_of_a_context_a_full_replica_is_waited_for():
    stepped = SteppedEngine()
    async with running_replica(stepped, max_streams=1) as replica:
        engine = RemoteEngine([replica.url])
        async with running_server(engine) as server:
            talk, _ = await session(server)
            async with talk, open_socket(server) as other:
                first = asyncio.create_task(converse(talk, text="One. " + LONG_TEXT + "end."))
                await until(lambda: stepped.waiting == 1)
                await send(other, text="Another one.")
                assert (await receive(other))["code"] == "over_capacity"
                stepped.allow()
                audio, kinds = await first
                assert audio
                assert "error" not in kinds


async def test_sigterm_lets_a_replica_finish(tmp_path):
    with await asyncio.to_thread(lambda: replica_process(tmp_path)) as process:
        async with running_server(RemoteEngine([process.url])) as server:
            async with open_socket(server) as socket:
                await send(socket, text=LONG_TEXT, stream=True)
                assert (await receive(socket))["status"] == "streaming"
                process.send(signal.SIGTERM)
                _, ending = await collect_stream(socket)
                assert ending["status"] == "success"
        assert await asyncio.to_thread(process.process.wait, PATIENCE_S) == 0
        assert "stopping: " in process.process.stderr.read()


def test_doctor_and_serve_say_what_is_at_the_addresses(tmp_path):
    with replica_process(tmp_path, "--engine-key", "secret") as process:
        flags = [f"TTS_PROVIDER_ENGINE_URLS={process.url},http://127.0.0.1:1"]
        flags.append("TTS_PROVIDER_ENGINE_KEY=secret")
        (tmp_path / ".env").write_text("\n".join(flags))
        report = run_cli(tmp_path, "doctor").stdout
        assert re.search(
            rf"{process.url}  espeak on cpu \(int16\); \d+ voices, 32 streams a replica", report
        )
        assert "http://127.0.0.1:1      cannot be reached" in report
        assert "engine: remote, because --engine-url names" in report
        assert "secret" not in report
    for arguments, message in (
        ([], "--engine remote needs --engine-url"),
        (["--engine-url", "gpu-1:8766"], "--engine-url is ['gpu-1:8766']: expected http://HOST"),
        (["--engine-url", "http://key@gpu-1"], "expected http://HOST"),
    ):
        (tmp_path / ".env").write_text("")
        reply = run_cli(tmp_path, "serve", "--engine", "remote", *arguments)
        assert (reply.returncode, "Traceback" in reply.stderr) == (2, False)
        assert message in reply.stderr


def test_a_key_that_is_not_the_replicas_ends_the_gateway(tmp_path):
    with replica_process(tmp_path, "--engine-key", "secret") as process:
        flags = ["--host", "127.0.0.1", "--port", "0", "--wait-for-model"]
        reply = run_cli(tmp_path, "serve", *flags, "--engine-url", process.url)
        assert reply.returncode == 2
        assert "the gateway's --engine-key is not this replica's" in reply.stderr.splitlines()[-1]


class Remembering(EspeakEngine):
    """The embedded voice, which says what it has heard."""

    def __init__(self) -> None:
        self.heard: list[list[tuple[str, str, int]]] = []

    async def speak(self, utterance):
        history = utterance.history
        self.heard.append([(s.text, s.voice, len(s.codes)) for s in history.segments])
        async with aclosing(super().speak(utterance)) as sounds:
            async for sound in sounds:
                yield sound
        codes = np.ones((len(self.heard), 32), np.int64)
        history.add(Spoken(utterance.text, utterance.voice.speaker, codes, utterance.voice.id))


async def test_a_dialogue_s_turns_hear_one_another_on_any_replica():
    engines = [Remembering(), Remembering()]
    turns = [{"text": f"Number {n}.", "speaker": n % 2} for n in range(3)]
    async with running_replica(engines[0]) as one, running_replica(engines[1]) as other:
        remote = RemoteEngine([one.url, other.url])
        async with running_server(remote) as server, open_socket(server) as socket:
            assert (await ask(socket, turns=turns))["status"] == "success"
    heard = sorted((told for engine in engines for told in engine.heard), key=len)
    assert [[part[:2] for part in told] for told in heard] == [
        [],
        [("Number zero.", "male")],
        [("Number zero.", "male"), ("Number one.", "female")],
    ]


async def test_a_replica_that_is_lost_within_a_dialogue_says_in_which_turn():
    spoken = []

    async def answer(path, writer):
        spoken.append(path)
        frames = (AUDIO, End()) if len(spoken) == 1 else (AUDIO,)
        writer.write(HEAD + frames_bytes(*frames))
        await writer.drain()

    turns = [{"text": "One."}, {"text": "Two.", "speaker": 1}]
    async with scripted(answer) as url, running_server(RemoteEngine([url])) as server:
        async with open_socket(server) as socket:
            assert (await ask(socket, turns=turns, stream=True))["status"] == "streaming"
            pieces, told = await collect_stream(socket)
            assert len(b"".join(pieces)) >= 2 * (1920 + 7200)  # the first turn and the pause
            assert (told["status"], told["code"]) == ("error", "engine_lost")
            assert told["message"].startswith("turns[1]: ")
