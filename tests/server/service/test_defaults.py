"""What a request has that does not say, over every endpoint."""

from __future__ import annotations

import httpx2
import numpy as np
import pytest

import decoders
from ears import median_pitch_hz
from rows import rows
from servers import GatedEngine, ask, collect_stream, open_socket, receive, running_server, send
from tts_provider.audio.pcm import from_s16
from tts_provider.config import Settings, load_settings
from tts_provider.errors import StartupError
from tts_provider.server.lifecycle import Server
from tts_provider.server.service.defaults import Defaults

TEXT = "one two three"
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}


@pytest.fixture(autouse=True)
def _no_settings_of_this_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def defaults_of(**flags) -> Defaults:
    return Defaults.of(load_settings(flags))


def test_without_a_setting_each_endpoint_has_its_own():
    for endpoint, own in (
        ("basic", "wav"),
        ("basic", "pcm"),
        ("session", "pcm"),
        ("openai", "mp3"),
    ):
        output = defaults_of().output(endpoint, None, None, own)
        assert (output.format, output.sample_rate) == (own, 24_000)


@rows(
    ("formats", "rates", "endpoint", "asked", "made"),
    [
        ("mulaw", "8000", "basic", (None, None), ("mulaw", 8000)),
        ("mulaw", "8000", "session", (None, None), ("mulaw", 8000)),
        ("mulaw", "8000", "openai", ("mp3", None), ("mp3", 8000)),
        ("mulaw", "8000", "openai", (None, 16_000), ("mulaw", 16_000)),
        (["basic=flac", "openai=WAV"], None, "basic", (None, None), ("flac", 24_000)),
        (["basic=flac", "openai=WAV"], None, "openai", (None, None), ("wav", 24_000)),
        (["basic=flac", "openai=WAV"], None, "session", (None, None), ("pcm", 24_000)),
        ("alaw, openai = opus", "openai=48000", "openai", (None, None), ("opus", 48_000)),
        ("alaw, openai = opus", "openai=48000", "session", (None, None), ("alaw", 24_000)),
        # A format that is not at the default rate is asked for: it has the usual one.
        (None, "11025", "openai", ("opus", None), ("opus", 24_000)),
    ],
)
def test_formats_and_rates_by_endpoint(formats, rates, endpoint, asked, made):
    flags = {"default_format": formats, "default_sample_rate": rates}
    defaults = defaults_of(**{name: value for name, value in flags.items() if value})
    output = defaults.output(endpoint, *asked, own="pcm")
    assert (output.format, output.sample_rate) == made


@rows(
    ("flags", "parts"),
    [
        (
            {"default_format": "mp3"},
            ["--default-format mp3: session has pcm, mulaw, alaw, opus", "basic=mp3,openai=mp3"],
        ),
        ({"default_format": "mp4"}, ["--default-format mp4: basic has wav, pcm, mp3"]),
        (
            {"default_format": "bsic=wav"},
            ["--default-format", "basic, session, openai", "bsic=wav"],
        ),
        ({"default_sample_rate": "11000"}, ["--default-sample-rate 11000: pcm at basic has 8000"]),
        (
            {"default_format": "openai=opus", "default_sample_rate": "44100"},
            ["--default-sample-rate 44100: opus at openai has 8000, 12000"],
        ),
        ({"default_sample_rate": "fast"}, ["--default-sample-rate", "fast", "integer"]),
        ({"default_speed": "9"}, ["--default-speed is '9'", "less than or equal to 4"]),
        ({"default_speed": "nan"}, ["--default-speed"]),
    ],
)
def test_what_cannot_be_had_is_one_sentence_at_the_start(flags, parts):
    with pytest.raises(StartupError) as caught:
        defaults_of(**flags)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_voice_that_nobody_has_is_one_sentence_at_the_start():
    with pytest.raises(StartupError, match="--default-voice siri: there is no voice 'siri'; this"):
        Server(GatedEngine(), Settings(default_voice="siri", _env_file=None))


async def test_the_voice_is_that_of_who_names_neither_voice_nor_speaker():
    settings = {"default_voice": "Nova", "voice_aliases": {"nova": "female"}}
    async with running_server(**settings) as server, open_socket(server) as socket:
        for request, is_woman in (
            ({}, True),
            ({"voice": ""}, True),
            ({"speaker": 0}, False),
            ({"voice": "male"}, False),
        ):
            await send(socket, text="How are you all today?", format="pcm", **request)
            assert (await receive(socket))["status"] == "success"
            pitch_hz = median_pitch_hz(from_s16(await receive(socket)))
            assert (pitch_hz > 150) == is_woman, request
        async with open_socket(server, path="v1/stream") as session:
            await receive(session)
            await send(session, type="session.update")
            assert (await receive(session))["voice"] == "female"


async def test_a_telephone_is_served_by_every_endpoint_of_ours():
    settings = {"default_format": {"": "mulaw"}, "default_sample_rate": {"": 8000}}
    async with running_server(**settings) as server, open_socket(server) as socket:
        told = await ask(socket, text=TEXT)
        assert (told["format"], told["sample_rate"]) == ("mulaw", 8000)
        whole = await receive(socket)
        await send(socket, text=TEXT, stream=True)
        assert (await receive(socket))["format"] == "mulaw"
        pieces, _ = await collect_stream(socket)
        assert b"".join(pieces) == whole
        told = await ask(socket, text=TEXT, format="wav")
        assert (told["format"], told["sample_rate"]) == ("wav", 8000)
        await receive(socket)
        async with open_socket(server, path="v1/stream") as session:
            await receive(session)
            await send(session, type="session.update")
            told = await receive(session)
            assert (told["format"], told["sample_rate"]) == ("mulaw", 8000)
        async with client_of(server) as client:
            reply = await client.post("/v1/audio/speech", json={"input": TEXT})
            assert (reply.headers["content-type"], reply.content) == ("audio/basic", whole)
            # Theirs are those of the services.
            reply = await client.post("/v1/text-to-speech/male", json={"text": TEXT})
            assert reply.headers["content-type"] == "audio/mpeg"
            reply = await client.post("/v1/speak", json={"text": TEXT})
            assert reply.headers["content-type"] == "audio/mpeg"


async def lengths_s(server) -> dict[str, float]:
    """Of the same words, over each endpoint."""
    found = {}
    async with open_socket(server) as socket:
        await send(socket, text=TEXT)
        await receive(socket)
        found["basic"] = len(decoders.wav_data(await receive(socket))) / 48_000
        turns = [{"text": TEXT}]
        await send(socket, turns=turns)
        await receive(socket)
        found["dialogue"] = len(decoders.wav_data(await receive(socket))) / 48_000
    async with open_socket(server, path="v1/stream") as session:
        await receive(session)
        await send(session, type="input_text.append", context_id="a", text=TEXT)
        await send(session, type="input_text.end", context_id="a")
        while (told := await receive(session))["type"] != "context.done":
            pass
        found["session"] = told["audio_ms"] / 1000
    inputs = [{"text": TEXT, "voice_id": "male"}]
    bodies = {
        "/v1/audio/speech": {"input": TEXT, "response_format": "pcm"},
        "/v1/audio/dialogue": {"turns": turns, "response_format": "pcm"},
        "/tts/bytes": {"transcript": TEXT, "voice": "male", "output_format": RAW},
        "/v1/text-to-speech/male?output_format=pcm_24000": {"text": TEXT},
        "/v1/text-to-dialogue?output_format=pcm_24000": {"inputs": inputs},
        "/v1/speak?encoding=linear16&container=none": {"text": TEXT},
    }
    async with client_of(server) as client:
        for path, body in bodies.items():
            reply = await client.post(path, json=body)
            assert reply.status_code == 200, reply.text
            found[path] = len(reply.content) / 48_000
    return found


async def test_the_speed_is_that_of_who_says_none_everywhere():
    async with running_server() as server:
        usual = await lengths_s(server)
    async with running_server(default_speed=2.0) as server:
        fast = await lengths_s(server)
        async with open_socket(server) as socket:
            await send(socket, text=TEXT, speed=1)
            await receive(socket)
            asked_s = len(decoders.wav_data(await receive(socket))) / 48_000
    assert asked_s == usual["basic"]
    for endpoint, length_s in fast.items():
        assert np.isclose(length_s, usual[endpoint] / 2, rtol=0.15), endpoint


def client_of(server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
