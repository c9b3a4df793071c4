"""Silence that is asked for costs its maker nothing: whoever makes it lets others in, and there is
only so much."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx2
import numpy as np
import pytest

from servers import SteppedEngine, ask, open_socket, receive, running_server, send
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import NoSpeech
from tts_provider.speech.engine import SAMPLE_RATE, Sound, Utterance
from tts_provider.speech.pipeline import AudioChunk, Progress, speak, speak_passages
from tts_provider.speech.reading import Passage

BREAK = '<break time="10s"/>'
TOO_MUCH = "Two. " + BREAK * 4 + " One."
RAW = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 48_000}
SILENCE_BYTES_A_S = 4 * 48_000
LONGEST_WORD_S = 3.0
_SILENCE = np.zeros(7680, np.float32)


def pause(seconds: float) -> Passage:
    return Passage("", "", 0, 0, seconds)


async def spoken(passages: list[Passage]) -> list[AudioChunk]:
    engine = EspeakEngine()
    utterance = Utterance("", engine.voices()[0])
    items = speak(engine, utterance, passages)
    return [item async for item in items if isinstance(item, AudioChunk)]


async def test_others_have_a_turn_for_each_chunk_of_silence():
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    engine = EspeakEngine()
    taking = asyncio.create_task(take_turns())
    chunks = 0
    utterance, within = Utterance("", engine.voices()[0]), Progress(is_audible=True)
    async for item in speak_passages(engine, utterance, [pause(60.0)], within):
        chunks += isinstance(item, AudioChunk)
    taking.cancel()
    assert chunks > 100
    assert turns >= chunks - 1


@pytest.mark.parametrize("seconds", [[10.0] * 40, [0.4, 0.4, 0.4]])
async def test_a_second_at_most_before_the_first_word(seconds):
    chunks = await spoken([*map(pause, seconds), Passage("a", "a")])
    silent = next(chunk.start for chunk in chunks if chunk.samples.any())
    assert silent == SAMPLE_RATE  # the pauses: with them came no sound
    behind = await spoken([Passage("a", "a"), pause(10.0), Passage("a", "a")])
    assert behind[-1].end > 10 * SAMPLE_RATE


async def test_nothing_but_pauses_is_told_before_any_is_made():
    engine = EspeakEngine()
    items = speak(engine, Utterance("", engine.voices()[0]), [pause(10.0)] * 1000)
    with pytest.raises(NoSpeech):
        await anext(items)


class Silent(EspeakEngine):
    """It says nothing for 96 s."""

    async def speak(self, utterance):
        for _ in range(300):
            await asyncio.sleep(0)
            yield Sound(_SILENCE)


async def test_what_is_kept_back_is_bounded_where_an_engine_says_nothing():
    """Bytes were appended to bytes until something was audible: as many copies as chunks."""
    engine = Silent()
    utterance = Utterance("", engine.voices()[0])
    chunks = speak(engine, utterance, [Passage("a", "a")], holds_silence=True)
    first = await anext(chunks)
    await chunks.aclose()
    assert first.start == 0
    assert len(first.samples) <= 2.5 * SAMPLE_RATE


async def test_silence_that_is_kept_back_leaves_with_the_first_sound():
    engine = EspeakEngine()
    utterance, passages = Utterance("", engine.voices()[0]), [pause(0.5), Passage("a", "a")]
    at_once = [chunk.samples async for chunk in speak(engine, utterance, passages)]
    held = [c.samples async for c in speak(engine, utterance, passages, holds_silence=True)]
    assert held[0].any()
    assert len(held) < len(at_once)
    assert np.array_equal(np.concatenate(held), np.concatenate(at_once))


async def test_forty_breaks_are_one_second():
    body = {"transcript": BREAK * 40 + "a", "voice": "male", "output_format": RAW}
    async with running_server() as server, client_of(server) as client:
        reply = await client.post("/tts/bytes", json=body)
    assert reply.status_code == 200
    assert len(reply.content) < (1.0 + LONGEST_WORD_S) * SILENCE_BYTES_A_S
    assert not any(reply.content[: SILENCE_BYTES_A_S * 9 // 10])


HTTP = {
    "/v1/audio/speech": {"input": f"<speak>{TOO_MUCH}</speak>", "ssml": True},
    "/tts/bytes": {"transcript": TOO_MUCH, "voice": "male", "output_format": RAW},
    "/tts/sse": {"transcript": TOO_MUCH, "voice": "male", "output_format": RAW},
    "/v1/text-to-speech/male": {"text": TOO_MUCH},
    "/v1/text-to-speech/male/stream": {"text": TOO_MUCH},
    "/v1/text-to-speech/male/with-timestamps": {"text": TOO_MUCH},
}


@pytest.mark.parametrize("path", HTTP)
async def test_pauses_that_are_longer_than_a_request_may_be_are_told_up_front(path):
    async with running_server(max_reply_audio_s=30) as server, client_of(server) as client:
        reply = await client.post(path, json=HTTP[path])
        assert reply.status_code == 400
        assert "speech_too_long" in reply.text
        assert "40 s" in reply.text
        assert "30 s" in reply.text


WORDS = "Two one four. " * 20
WORDS_HTTP = {
    "/v1/audio/speech": {"input": WORDS, "response_format": "pcm"},
    "/v1/audio/dialogue": {"turns": [{"text": WORDS[:140]}, {"text": WORDS[140:]}]},
    "/tts/bytes": {"transcript": WORDS, "voice": "male", "output_format": RAW},
    "/v1/text-to-speech/male/with-timestamps": {"text": WORDS},
    "/v1/speak?encoding=linear16": {"text": WORDS},
}


@pytest.mark.parametrize("path", WORDS_HTTP)
async def test_words_that_surely_are_too_long_are_told_before_anything_is_spoken(path, caplog):
    caplog.set_level(logging.INFO)
    engine = SteppedEngine()  # it would stand still
    async with running_server(engine, max_reply_audio_s=4) as server, client_of(server) as client:
        reply = await client.post(path, json=WORDS_HTTP[path])
        assert reply.status_code == 400
        for part in ("speech_too_long", "s long; one request may have 4 s", "/v1/audio/jobs"):
            assert part in reply.text
        metrics = server.service.metrics.render().decode()
        assert 'outcome="speech_too_long"} 1.0' in metrics
        (line,) = [record for record in caplog.records if record.message == "request"]
        assert (line.outcome, line.audio_ms) == ("speech_too_long", 0)
        # At twice the speed, or with less of it, it may fit.
        engine.allow()
        fits = {"input": WORDS[:60], "response_format": "pcm", "speed": 2}
        assert (await client.post("/v1/audio/speech", json=fits)).status_code == 200


async def test_who_wants_less_of_a_long_text_has_it():
    engine = SteppedEngine()
    engine.allow()
    async with running_server(engine, max_reply_audio_s=4) as server, open_socket(server) as socket:
        assert (await ask(socket, text=WORDS))["code"] == "speech_too_long"
        reply = await ask(socket, text=WORDS, max_audio_length_ms=3000)
        assert reply["status"] == "success"


LONG = {
    "/v1/audio/speech": {"input": "Two one four. " * 20, "response_format": "pcm"},
    "/v1/speak?encoding=linear16": {"text": "Two one four. " * 20},
}


@pytest.mark.parametrize("path", LONG)
async def test_words_that_are_too_long_end_at_the_limit(path):
    engine = SteppedEngine()
    engine.allow()
    async with running_server(engine, max_reply_audio_s=11) as server, client_of(server) as client:
        heard, is_broken = 0, False
        try:
            async with client.stream("POST", path, json=LONG[path]) as reply:
                assert reply.status_code == 200
                async for piece in reply.aiter_bytes():
                    heard += len(piece)
        except httpx2.HTTPError:
            is_broken = True
        assert is_broken
        assert 0 < heard <= 11 * SAMPLE_RATE * 2 + 44
        metrics = server.service.metrics.render().decode()
        assert 'tts_errors_total{code="speech_too_long"} 1.0' in metrics
        assert 'outcome="speech_too_long"} 1.0' in metrics


@pytest.mark.parametrize("stream", [False, True])
async def test_the_basic_endpoint_says_so_and_goes_on(stream):
    async with running_server(max_reply_audio_s=30) as server, open_socket(server) as socket:
        text = f"<speak>{TOO_MUCH}</speak>"
        await send(socket, text=text, ssml=True, stream=stream)
        assert (await receive(socket))["code"] == "speech_too_long"
        # Who wants less of it than that has it.
        await send(socket, text=text, ssml=True, max_audio_length_ms=2000)
        assert (await receive(socket))["status"] == "success"


async def test_a_session_says_so_and_goes_on():
    ssml = {"type": "session.update", "ssml": True}
    async with running_server(max_reply_audio_s=30) as server:
        async with open_socket(server, path="v1/stream") as socket:
            await receive(socket)
            await socket.send(json.dumps(ssml))
            assert (await receive(socket))["type"] == "session.updated"
            for name, text in (("a", TOO_MUCH), ("b", "Two.")):
                said = f"<speak>{text}</speak>"
                await send(socket, type="input_text.append", context_id=name, text=said)
            told = await receive(socket)
            assert (told["type"], told["code"]) == ("error", "speech_too_long")
            await send(socket, type="input_text.end", context_id="b")
            while (told := await receive(socket))["type"] != "context.done":
                assert told["type"] != "error", told


async def test_pauses_of_a_session_count_until_they_are_spoken():
    """Message by message: no single one asks for too much."""
    async with running_server(max_reply_audio_s=30) as server:
        url = "v1/text-to-speech/male/multi-stream-input?output_format=pcm_8000"
        async with open_socket(server, path=url) as socket:
            for _ in range(4):
                await send(socket, text=f"Two. {BREAK}", context_id="a")
            while "error" not in (told := await receive(socket)):
                pass
            assert told["error"] == "speech_too_long"


async def test_silence_within_a_session_takes_no_place():
    """Its listener hears it for 10 s, and nobody else could speak meanwhile."""
    ssml = {"type": "session.update", "ssml": True}
    async with running_server(max_streams=1, max_ahead_s=1.0) as server:
        async with open_socket(server, path="v1/stream") as socket, open_socket(server) as other:
            await receive(socket)
            await socket.send(json.dumps(ssml))
            text = f"<speak>Two. {BREAK} One."
            await send(socket, type="input_text.append", context_id="a", text=text)
            while (await receive(socket))["type"] != "audio.segment":
                pass
            assert (await receive(socket))["type"] == "audio.delta"  # of the silence
            assert (await ask(other, text="Two."))["status"] == "success"
            await send(socket, type="context.cancel", context_id="a")
            while (told := await receive(socket))["type"] != "context.cancelled":
                pass
            assert told["audio_ms"] < 10_000


async def test_a_segment_of_a_session_that_is_too_long_ends_its_context():
    async with running_server(max_reply_audio_s=1) as server:
        async with open_socket(server, path="v1/stream") as socket:
            await receive(socket)
            text = "seven " * 30 + "."
            await send(socket, type="input_text.append", context_id="a", text=text)
            await send(socket, type="input_text.end", context_id="a")
            kinds = []
            while (told := await receive(socket))["type"] != "context.done":
                kinds.append(told.get("code") or told["type"])
            assert kinds[-1] == "speech_too_long"
            assert told["audio_ms"] <= 1000


def client_of(server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
