"""OpenAI's speech API, asked by a plain HTTP client."""

from __future__ import annotations

import base64
import io
import json
from contextlib import aclosing

import av
import httpx2
import numpy as np
import pytest

import decoders
from ears import hear_digits, median_pitch_hz
from servers import GatedEngine, SteppedEngine, running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import EngineFailed
from tts_provider.server.dialects.openai.api import VOICES
from tts_provider.server.dialects.openai.http import MEDIA_TYPES

SPEECH = "/v1/audio/speech"


def client_of(server, **options) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", **options)


async def ask(server, **request) -> httpx2.Response:
    async with client_of(server) as client:
        return await client.post(SPEECH, json=request)


async def speak(server, **request) -> np.ndarray:
    reply = await ask(server, response_format="pcm", **request)
    assert reply.status_code == 200, reply.text
    return from_s16(reply.content)


def error_of(reply: httpx2.Response) -> dict:
    body = reply.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "\n" not in body["error"]["message"]
    return body["error"]


def decode(data: bytes, audio_format: str) -> np.ndarray:
    """Samples at 24 kHz, as FFmpeg's decoders give them."""
    if audio_format == "pcm":
        return from_s16(data)
    if audio_format in ("mulaw", "alaw"):
        return decoders.decode(data, audio_format, 24_000)[0]
    resampler = av.AudioResampler("flt", "mono", 24_000)
    with av.open(io.BytesIO(data)) as container:
        frames = [*container.decode(audio=0), None]
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces)


@pytest.mark.parametrize("audio_format", MEDIA_TYPES)
async def test_every_format_says_the_words(audio_format):
    async with running_server() as server:
        reply = await ask(server, input="two one four", response_format=audio_format)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == MEDIA_TYPES[audio_format]
        assert "content-length" not in reply.headers  # it leaves while it is made
        assert reply.headers["x-accel-buffering"] == "no"
        samples = decode(reply.content, audio_format)
        assert hear_digits(samples) == ["two", "one", "four"]
        # A lossy encoder's delay and its last frame are audio to who cannot know their length.
        expected = len(await speak(server, input="two one four"))
        assert expected - 24 <= len(samples) < expected + 24_000 // 8


@pytest.mark.parametrize(
    ("asked", "rate"),
    [("wav", 8000), ("pcm", 8000), ("mulaw", 8000), ("mp3", 11_025), ("opus", 12_000)],
)
async def test_telephones_and_others_have_their_sample_rate(asked, rate):
    async with running_server() as server:
        reply = await ask(server, input="two one four", response_format=asked, sample_rate=rate)
        assert reply.status_code == 200, reply.text
        samples, read_rate, _ = decoders.decode(reply.content, asked, rate)
        assert read_rate == (48_000 if asked == "opus" else rate)
        assert hear_digits(samples, read_rate) == ["two", "one", "four"]


async def test_rates_that_a_format_has_not_are_listed():
    async with running_server() as server:
        for asked, rates in (("opus", "8000, 12000, 16000"), ("mp3", "8000, 11025, 12000")):
            reply = await ask(server, input="Hi.", response_format=asked, sample_rate=11_000)
            error = error_of(reply)
            assert (reply.status_code, error["param"]) == (400, "sample_rate")
            assert f"one of {rates}" in error["message"]
        async with client_of(server) as client:  # as a form has it
            form = {"input": "Hi.", "response_format": "wav", "sample_rate": "8000"}
            reply = await client.post(SPEECH, data=form)
            assert (reply.status_code, reply.content[24:28]) == (200, (8000).to_bytes(4, "little"))


async def test_mp3_is_what_comes_without_asking_and_all_fields_of_openai_are_known():
    async with running_server() as server:
        assert (await ask(server, input="Hi.")).headers["content-type"] == "audio/mpeg"
        reply = await ask(
            server,
            model="gpt-4o-mini-tts",
            input="Hi.",
            voice={"id": "female"},
            instructions="Whisper.",
            response_format="wav",
            speed=1,
            stream_format="audio",
            lang="en",  # not a field of anybody's
        )
        assert (reply.status_code, reply.content[:4]) == (200, b"RIFF")
        reply = await ask(server, input="Hi.", voice=None, speed=None, response_format=None)
        assert reply.status_code == 200


@pytest.mark.parametrize("voice", VOICES)
async def test_openais_voices_are_a_man_and_a_woman(voice):
    async with running_server() as server:
        samples = await speak(server, input="How are you all today?", voice=voice)
        is_woman = median_pitch_hz(samples) > 150
        assert is_woman == (VOICES[voice] == 1)


async def test_aliases_of_the_operator_come_first_and_every_endpoint_knows_them():
    aliases = {"nova": "male", "narrator": "female", "nested": "shimmer", "lost": "nobody"}
    async with running_server(voice_aliases=aliases) as server:
        man = await speak(server, input="Hello.", voice="male")
        woman = await speak(server, input="Hello.", voice="female")
        assert np.array_equal(man, await speak(server, input="Hello.", voice="nova"))
        for name in ("narrator", "nested", "coral"):
            assert np.array_equal(woman, await speak(server, input="Hello.", voice=name))
        error = error_of(await ask(server, input="Hello.", voice="narator"))
        assert "no voice 'narator'; did you mean narrator? This server has male" in error["message"]
        error = error_of(await ask(server, input="Hello.", voice="lost"))
        assert (error["code"], error["param"]) == ("unknown_voice", "voice")


class OneSpeedEngine(EspeakEngine):
    """Like a model, which speaks at one speed."""

    speeds = (1.0, 1.0)


# espeak's pauses do not become shorter by as much as its words.
@pytest.mark.parametrize(("engine", "tolerance"), [(EspeakEngine, 0.12), (OneSpeedEngine, 0.02)])
@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 2.0, 4.0])
async def test_speed_changes_the_tempo_and_keeps_the_pitch(engine, tolerance, speed):
    text = "Alice was beginning to get very tired of sitting by her sister on the bank."
    async with running_server(engine()) as server:
        normal = await speak(server, input=text)
        fast = await speak(server, input=text, speed=speed)
        assert len(normal) / len(fast) == pytest.approx(speed, rel=tolerance)
        assert median_pitch_hz(fast) == pytest.approx(median_pitch_hz(normal), rel=0.05)


@pytest.mark.parametrize("engine", [EspeakEngine, OneSpeedEngine])
@pytest.mark.parametrize("speed", [0.75, 1.25])
async def test_words_at_another_speed_are_understood(engine, speed):
    async with running_server(engine()) as server:
        samples = await speak(server, input="two one four", speed=speed)
        assert hear_digits(samples) == ["two", "one", "four"]


@pytest.mark.parametrize("audio_format", ["mp3", "pcm"])
async def test_events_carry_the_same_file_and_what_it_cost(audio_format):
    text = "one two three"
    async with running_server() as server:
        plain = await ask(server, input=text, response_format=audio_format)
        reply = await ask(server, input=text, response_format=audio_format, stream_format="sse")
        assert reply.headers["content-type"].split(";")[0] == "text/event-stream"
        lines = reply.text.split("\n\n")
        assert lines.pop() == ""
        *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert len(deltas) > 2
        assert {event["type"] for event in deltas} == {"speech.audio.delta"}
        assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == plain.content
        frames = -(-len(await speak(server, input=text)) // 1920)
        usage = {
            "input_tokens": len(text),
            "output_tokens": frames,
            "total_tokens": len(text) + frames,
        }
        assert done == {"type": "speech.audio.done", "usage": usage}


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"\xff\xfe", 400, "invalid_json", None),
        (b"[" * 60_000, 400, "invalid_json", None),
        (b'{"input": "a\\ud800"}', 400, "invalid_json", None),
        (b"[]", 400, "invalid_type", None),
        (b'"input"', 400, "invalid_type", None),
        (b"{}", 400, "no_text", "input"),
        (b'{"input": ""}', 400, "no_text", "input"),
        (b'{"input": " \\n"}', 400, "no_text", "input"),
        (b'{"input": null}', 400, "invalid_type", "input"),
        (b'{"input": 5}', 400, "invalid_type", "input"),
        (b'{"input": "a\\u0000"}', 400, "invalid_text", "input"),
        (b'{"input": "%s"}' % (b"a" * 20_001), 400, "text_too_long", "input"),
        (b'{"input": "..."}', 422, "no_speech", "input"),
        (b'{"input": "Hi.", "voice": "nobody"}', 400, "unknown_voice", "voice"),
        (b'{"input": "Hi.", "voice": {"id": "nobody"}}', 400, "unknown_voice", "voice"),
        (b'{"input": "Hi.", "voice": 3}', 400, "invalid_type", "voice"),
        (b'{"input": "Hi.", "voice": {}}', 400, "invalid_type", "voice"),
        (b'{"input": "Hi.", "response_format": "ogg"}', 400, "invalid_value", "response_format"),
        (b'{"input": "Hi.", "speed": 0.2}', 400, "invalid_value", "speed"),
        (b'{"input": "Hi.", "speed": 5}', 400, "invalid_value", "speed"),
        (b'{"input": "Hi.", "speed": NaN}', 400, "invalid_value", "speed"),
        (b'{"input": "Hi.", "speed": "fast"}', 400, "invalid_type", "speed"),
        (b'{"input": "Hi.", "speed": "5"}', 400, "invalid_value", "speed"),
        (b'{"input": "Hi.", "seed": "1"}', 400, "invalid_type", "seed"),
        (b'{"input": "Hi.", "speed": true}', 400, "invalid_type", "speed"),
        (b'{"input": "Hi.", "stream_format": "mp3"}', 400, "invalid_value", "stream_format"),
        (b'{"input": "Hi.", "seed": -1}', 400, "invalid_value", "seed"),
        (b'{"input": "Hi.", "model": 1}', 400, "invalid_type", "model"),
    ],
)
async def test_bad_requests_are_told_in_openais_shape(body, status, code, param):
    async with running_server() as server, client_of(server) as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.post(SPEECH, content=body, headers=headers)
        error = error_of(reply)
        assert (reply.status_code, error["code"], error["param"]) == (status, code, param), error
        assert error["type"] == "invalid_request_error"
        assert (await client.post(SPEECH, json={"input": "Still here."})).status_code == 200


async def test_a_body_that_is_not_json_is_415_and_one_that_does_not_say_is_json():
    async with running_server() as server, client_of(server) as client:
        body = b'{"input": "Hi."}'
        for media_type in ("audio/wav", "application/xml", "\xe9/json"):
            headers = {"Content-Type": media_type.encode("latin-1")}
            reply = await client.post(SPEECH, content=body, headers=headers)
            assert (reply.status_code, error_of(reply)["code"]) == (415, "unsupported_media_type")
        assert (await client.post(SPEECH, content=body)).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(declared):
    body = b'{"input": "%s"}' % (b" " * 310_000)

    async def pieces():
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with running_server() as server, client_of(server) as client:
        reply = await client.post(SPEECH, content=body if declared else pieces())
        assert (reply.status_code, error_of(reply)["code"]) == (413, "body_too_large")


async def test_the_headers_come_with_the_first_audio():
    engine = SteppedEngine()
    async with running_server(engine) as server, client_of(server) as client:
        request = client.build_request("POST", SPEECH, json={"input": "one two three"})
        engine.allow(1)
        reply = await client.send(request, stream=True)
        async with aclosing(reply):
            # The rest is not made yet, and cannot be until it is allowed.
            assert (reply.status_code, engine.chunks_made) == (200, 1)
            engine.allow()
            assert len(await reply.aread()) > 1000


class BreakingEngine(EspeakEngine):
    """The embedded voice, which breaks after some chunks of what is no warm-up."""

    def __init__(self, error: Exception, good_chunks: int) -> None:
        self._error, self._good_chunks = error, good_chunks

    async def speak(self, utterance):
        async with aclosing(super().speak(utterance)) as chunks:
            made = 0
            async for chunk in chunks:
                if utterance.text != "Ready." and made == self._good_chunks:
                    raise self._error
                made += 1
                yield chunk


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineFailed("the engine broke"), "engine_failed"), (ValueError("a bug"), "internal_error")],
)
async def test_an_error_before_the_first_audio_is_a_status(error, code):
    async with running_server(BreakingEngine(error, 0)) as server:
        for stream_format in ("audio", "sse"):
            reply = await ask(server, input="Hello.", stream_format=stream_format)
            problem = error_of(reply)
            assert (reply.status_code, problem["code"]) == (500, code)
            assert problem["type"] == "server_error"
            assert "a bug" not in problem["message"]


@pytest.mark.parametrize("error", [EngineFailed("the engine broke"), ValueError("a bug")])
async def test_an_error_after_the_first_audio_cuts_the_connection(error):
    async with running_server(BreakingEngine(error, 5)) as server:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await ask(server, input="one two three four five six")
        assert server.service.admission.active == 0


async def test_an_error_after_the_first_event_is_an_event():
    engine = BreakingEngine(EngineFailed("the engine broke"), 5)
    async with running_server(engine) as server, client_of(server) as client:
        request = {"input": "one two three four five six", "stream_format": "sse"}
        events = []

        async def read() -> None:
            async with client.stream("POST", SPEECH, json=request) as reply:
                async for line in reply.aiter_lines():
                    if line:
                        events.append(json.loads(line.removeprefix("data: ")))

        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await read()
        assert events[0]["type"] == "speech.audio.delta"
        assert events[-1]["error"]["code"] == "engine_failed"


async def test_who_comes_too_early_too_late_or_is_too_many_hears_when_to_come_back():
    engine = GatedEngine()
    async with running_server(engine) as server:
        reply = await ask(server, input="Hello.")
        assert (reply.status_code, error_of(reply)["code"]) == (503, "loading")
        assert int(reply.headers["retry-after"]) >= 1
        engine.gate.set_result(None)
        await server.listening.wait()
    stepped = SteppedEngine()
    async with running_server(stepped, max_streams=1, max_queued_requests=0) as server:
        async with client_of(server) as client:
            stepped.allow(1)
            async with client.stream("POST", SPEECH, json={"input": "one two three"}) as first:
                reply = await ask(server, input="Hello.")
                assert (reply.status_code, error_of(reply)["code"]) == (503, "over_capacity")
                assert int(reply.headers["retry-after"]) >= 1
                server.service.admission.drain()
                reply = await ask(server, input="Hello.")
                assert (reply.status_code, error_of(reply)["code"]) == (503, "draining")
                stepped.allow()
                assert len(await first.aread()) > 1000  # what had begun is finished


async def test_models_are_the_engines_and_openais_names_for_it():
    async with running_server() as server, client_of(server) as client:
        listed = (await client.get("/v1/models")).json()
        ids = [model["id"] for model in listed["data"]]
        assert listed["object"] == "list"
        assert ids == ["espeak-ng", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"]
        for model in listed["data"]:
            assert (await client.get(f"/v1/models/{model['id']}")).json() == model
        voices = [(voice["canonical_name"], voice["languages"]) for voice in listed["tts"]]
        assert voices[:2] == [("male", ["en-US"]), ("female", ["en-US"])]
        reply = await client.get("/v1/models/sesame/csm-1b")
        assert (reply.status_code, error_of(reply)["code"]) == (404, "model_not_found")
        audio = (await client.get("/v1/audio/models")).json()["models"]
        assert [model["id"] for model in audio] == ids


async def test_keys_are_asked_for_here_too_and_requests_are_counted():
    async with running_server(api_keys="k") as server:
        reply = await ask(server, input="Hello.")
        assert (reply.status_code, error_of(reply)["code"]) == (401, "unauthorized")
        async with client_of(server, headers={"Authorization": "Bearer k"}) as client:
            assert (await client.post(SPEECH, json={"input": "Hello."})).status_code == 200
        counts = server.service.metrics.render().decode()
        assert 'tts_requests_total{endpoint="openai",outcome="spoken"} 1.0' in counts
