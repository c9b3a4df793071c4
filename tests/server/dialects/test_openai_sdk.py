"""OpenAI's own Python package, with nothing changed but its base URL."""

from __future__ import annotations

import base64
import json

import openai
import pytest

from ears import hear_digits
from servers import GatedEngine, running_server
from tts_provider.audio.pcm import from_s16

DIGITS = ["two", "one", "four"]


def client_of(server, **options) -> openai.AsyncOpenAI:
    options = {"api_key": "any", "max_retries": 0, **options}
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", **options)


async def test_create():
    async with running_server() as server, client_of(server) as client:
        reply = await client.audio.speech.create(
            model="tts-1", voice="nova", input=" ".join(DIGITS), response_format="pcm"
        )
        assert hear_digits(from_s16(reply.content)) == DIGITS


async def test_with_streaming_response(tmp_path):
    async with running_server() as server, client_of(server) as client:
        async with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice={"id": "female"}, input="Hello.", speed=1.5
        ) as reply:
            await reply.stream_to_file(tmp_path / "a.mp3")
        assert (tmp_path / "a.mp3").read_bytes()[:3] == b"ID3"


async def test_events():
    async with running_server() as server, client_of(server) as client:
        async with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts",
            voice="onyx",
            input=" ".join(DIGITS),
            instructions="Calmly.",
            response_format="pcm",
            stream_format="sse",
        ) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = [line async for line in reply.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert hear_digits(from_s16(audio)) == DIGITS
    assert events[-1]["usage"]["total_tokens"] > 0


async def test_errors_are_openais():
    async with running_server() as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
        assert (caught.value.code, caught.value.param) == ("unknown_voice", "voice")
        assert "this server has male, female" in caught.value.message
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-9")
    async with running_server(api_keys="k") as server, client_of(server) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_models():
    async with running_server() as server, client_of(server) as client:
        ids = [model.id async for model in await client.models.list()]
        assert (await client.models.retrieve(ids[0])).id == "espeak-ng"


async def test_who_comes_too_early_comes_back():
    engine = GatedEngine()
    async with running_server(engine) as server, client_of(server, max_retries=5) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.with_options(max_retries=0).audio.speech.create(
                model="tts-1", voice="nova", input="Hello."
            )
        assert (caught.value.status_code, caught.value.code) == (503, "loading")
        engine.gate.set_result(None)
        assert await client.audio.speech.create(model="tts-1", voice="nova", input="Hello.")
