"""Wyoming's port over real sockets, with the package that Home Assistant calls it with."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, async_read_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

import ears
from recordings import TEXT, speech
from servers import PATIENCE_S, GatedEngine, SteppedEngine, running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.config import Limits
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import StartupError
from tts_provider.keys.store import KeyStore
from tts_provider.server.lifecycle import Server
from tts_provider.voices.store import VoiceStore

DIGITS = ["two", "one", "four"]


def running(engine=None, **settings):
    return running_server(engine, wyoming_port=0, **settings)


def client_of(server: Server) -> AsyncTcpClient:
    return AsyncTcpClient("127.0.0.1", server.wyoming_port)


async def read(client: AsyncTcpClient) -> Event | None:
    return await asyncio.wait_for(client.read_event(), PATIENCE_S)


async def read_until(client: AsyncTcpClient, kind) -> list[Event]:
    events = []
    while not events or not kind.is_type(events[-1].type):
        event = await read(client)
        assert event is not None, events
        events.append(event)
    return events


def audio_of(events: list[Event]) -> bytes:
    return b"".join(event.payload for event in events if AudioChunk.is_type(event.type))


def hear(events: list[Event]) -> list[str]:
    assert AudioStart.is_type(events[0].type)
    assert AudioStart.from_event(events[0]).rate == 24_000
    return ears.hear_digits(from_s16(audio_of(events)))


async def test_it_says_what_it_is():
    async with running() as server, client_of(server) as client:
        await client.write_event(Describe().event())
        event = await read(client)
        (program,) = Info.from_event(event).tts
        assert program.supports_synthesize_streaming
        assert [voice.name for voice in program.voices[:2]] == ["male", "female"]
        languages = {voice.name: voice.languages for voice in program.voices}
        assert languages["female"] == ["en-US"]
        assert languages["espeak:de"] == ["de"]
        await client.write_event(Ping("x").event())
        assert Pong.from_event(await read(client)).text == "x"


@pytest.mark.parametrize(("voice", "is_woman"), [(None, False), ("female", True)])
async def test_a_whole_text(voice, is_woman):
    wanted = None if voice is None else SynthesizeVoice(name=voice)
    async with running() as server, client_of(server) as client:
        await client.write_event(Synthesize(" ".join(DIGITS), voice=wanted).event())
        events = await read_until(client, AudioStop)
        assert hear(events) == DIGITS
        assert (ears.median_pitch_hz(from_s16(audio_of(events))) > 150) == is_woman


async def test_as_home_assistant_streams():
    async with running() as server, client_of(server) as client:
        await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name="Male")).event())
        for chunk in ("Two o", "ne fo", "ur."):
            await client.write_event(SynthesizeChunk(chunk).event())
        await client.write_event(Synthesize("Two one four.").event())
        await client.write_event(SynthesizeStop().event())
        events = await read_until(client, SynthesizeStopped)
        assert [AudioStop.is_type(event.type) for event in events[-2:]] == [True, False]
        assert hear(events) == DIGITS


async def test_audio_comes_before_the_text_is_whole():
    async with running() as server, client_of(server) as client:
        await client.write_event(SynthesizeStart().event())
        await client.write_event(SynthesizeChunk("This is a sentence. And ").event())
        await read_until(client, AudioChunk)


async def test_texts_are_spoken_one_after_another():
    async with running() as server, client_of(server) as client:
        for digit in DIGITS:
            await client.write_event(Synthesize(digit).event())
        for digit in DIGITS:
            assert hear(await read_until(client, AudioStop)) == [digit]


async def test_problems_are_told_and_end_the_connection_alone():
    async with running() as server, client_of(server) as other, client_of(server) as client:
        await client.write_event(Synthesize("a", voice=SynthesizeVoice(name="nobody")).event())
        assert Error.from_event(await read(client)).code == "unknown_voice"
        assert await read(client) is None
        await other.write_event(Synthesize("two").event())
        assert hear(await read_until(other, AudioStop)) == ["two"]
        metrics = server.service.metrics.render().decode()
        assert 'tts_errors_total{code="unknown_voice"} 1.0' in metrics
        assert 'endpoint="wyoming",outcome="spoken"' in metrics


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b'{"type": "synthesize", "data_length": 1000000000}\n', "message_too_big"),
        (b'{"type": "audio-chunk", "payload_length": 1000000000}\n', "message_too_big"),
        (b'{"type": "synthesize", "data_length": -1}\n', "invalid_value"),
        (b'{"type": "synthesize", "data_length": 1.5}\n', "invalid_value"),
        (b'{"type": "synthesize", "data_length": true}\n', "invalid_value"),
        (b'{"type": "synthesize", "data_length": 2}\n[]', "invalid_type"),
        (b"\xff\xfe\n", "invalid_json"),
        (b"GET / HTTP/1.1\r\n\r\n", "invalid_json"),
        (b"[" * 400_000 + b"\n", "message_too_big"),
        (b"[" * 100_000 + b"\n", "invalid_json"),
        (b"\n", "invalid_json"),
    ],
)
async def test_what_is_no_event(sent, code):
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        writer.write(sent)
        event = await asyncio.wait_for(async_read_event(reader), PATIENCE_S)
        assert Error.from_event(event).code == code
        with contextlib.suppress(ConnectionResetError):  # where not all was read
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


async def test_data_and_payload_behind_the_line():
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        data = json.dumps({"text": "two"}).encode()
        writer.write(b'{"type": "audio-chunk", "payload_length": 100000}\n' + bytes(100_000))
        writer.write(b'{"type": "synthesize", "data_length": %d}\n' % len(data) + data)
        event = await asyncio.wait_for(async_read_event(reader), PATIENCE_S)
        assert AudioStart.is_type(event.type)
        writer.close()


@pytest.mark.parametrize("sent", [b"", b'{"type": "synth', b'{"type": "a", "data_length": 9}\n{"'])
async def test_who_leaves_in_the_middle_leaves_nothing_behind(sent):
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()
        await asyncio.wait_for(server.sockets.wait_closed(), PATIENCE_S)


async def test_who_leaves_while_it_speaks_frees_the_place():
    engine = SteppedEngine()
    async with running(engine) as server:
        async with client_of(server) as client:
            await client.write_event(Synthesize("This is a sentence.").event())
            engine.allow(1)
            await read_until(client, AudioChunk)
        await asyncio.wait_for(server.service.admission.wait_idle(), PATIENCE_S)
        await asyncio.wait_for(server.sockets.wait_closed(), PATIENCE_S)
        engine.allow()


async def test_who_does_not_read_is_cut_off():
    limits = {"max_unsent_audio_s": 0.2, "max_ahead_s": 10_000.0}
    async with running(**limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port, limit=1024)
        text = "This is one sentence of many. " * 600
        writer.write(json.dumps({"type": "synthesize", "data": {"text": text}}).encode() + b"\n")
        await writer.drain()
        await reader.readexactly(1)
        await asyncio.wait_for(server.sockets.wait_closed(), PATIENCE_S)
        assert (
            'tts_errors_total{code="unsent_audio"} 1.0' in server.service.metrics.render().decode()
        )
        writer.transport.abort()


async def test_who_sends_too_much_for_long_is_told_and_cut_off():
    limits = {"max_frames_per_s": 10.0, "flood_timeout_s": 0.1}
    async with running(**limits) as server, client_of(server) as client:
        for _ in range(200):
            await client.write_event(Event("nothing"))
        assert Error.from_event(await read(client)).code == "too_many_messages"


async def test_connections_have_a_limit_of_their_own():
    async with running(max_wyoming_connections=1) as server, client_of(server) as first:
        await first.write_event(Ping().event())
        await read(first)
        async with client_of(server) as second:
            assert Error.from_event(await read(second)).code == "over_capacity"
            assert await read(second) is None


async def test_who_is_silent_for_long_is_sent_away():
    async with running(idle_timeout_s=0.05) as server, client_of(server) as client:
        assert await read(client) is None


async def test_what_is_spoken_is_finished_when_the_server_goes():
    engine = SteppedEngine()
    async with running(engine) as server, client_of(server) as client:
        await client.write_event(Synthesize("two").event())
        engine.allow(1)
        begun = await read_until(client, AudioChunk)
        server.stop()
        engine.allow()
        rest = await read_until(client, AudioStop)
        assert hear(begun + rest) == ["two"]
        assert await read(client) is None


async def test_who_comes_early_waits():
    engine = GatedEngine()
    async with running(engine) as server, client_of(server) as client:
        await client.write_event(Synthesize("two").event())
        engine.gate.set_result(None)
        assert hear(await read_until(client, AudioStop)) == ["two"]


async def test_with_keys_somebody_says_who_may_come():
    with pytest.raises(StartupError, match="--wyoming-host"):
        async with running(host="0.0.0.0", api_keys="k"):
            pass
    async with running(host="0.0.0.0", api_keys="k", wyoming_host="127.0.0.1") as server:
        async with client_of(server) as client:
            await client.write_event(Ping().event())
            assert Pong.is_type((await read(client)).type)


async def test_a_port_that_is_taken():
    async with running() as server:
        with pytest.raises(StartupError, match="cannot listen on"):
            async with running_server(wyoming_port=server.wyoming_port):
                pass


async def test_it_is_found_by_itself():
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    found, tasks = asyncio.Event(), []
    async with running(wyoming_zeroconf=True) as server:

        async def look(zeroconf, service, name):
            info = await zeroconf.async_get_service_info(service, name, int(PATIENCE_S * 1000))
            if info is not None and info.port == server.wyoming_port:  # not another run's
                found.set()

        def notice(zeroconf, service_type, name, state_change):
            if state_change.name == "Added":
                tasks.append(asyncio.ensure_future(look(zeroconf, service_type, name)))

        looking = AsyncZeroconf(interfaces=["127.0.0.1"])
        browser = AsyncServiceBrowser(looking.zeroconf, "_wyoming._tcp.local.", handlers=[notice])
        await asyncio.wait_for(found.wait(), PATIENCE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await browser.async_cancel()
        await looking.async_close()


async def test_it_speaks_with_no_keys_own_voices(tmp_path):
    """Whoever comes here shows no key, so what belongs to one is not there unless it is shared."""

    class Prompted(EspeakEngine):
        takes_prompts = True

    with KeyStore(tmp_path) as keys:
        keys.add("anna")
    voices = VoiceStore(tmp_path / "voices", Limits())
    hers, _ = voices.add("Hers", TEXT, True, speech(), owner="anna")
    shared, _ = voices.add("Shared", TEXT, True, speech(), owner="anna", shared=True)
    async with running(Prompted(), data_dir=tmp_path) as server:
        async with client_of(server) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await read(client))
            names = {voice.name for voice in info.tts[0].voices}
            assert shared.id in names
            assert hers.id not in names
            voice = SynthesizeVoice(name=hers.id)
            await client.write_event(Synthesize("Hi.", voice=voice).event())
            problem = Error.from_event(await read(client))
            assert problem.code == "unknown_voice"
