"""Agent frameworks' voices, pointed at this server; each in an environment of its own, because they
and we need different versions of the same packages. `make test-clients` builds them."""

from __future__ import annotations

import base64

import pytest

from clients.programs import run_program
from ears import hear_digits, median_pitch_hz
from servers import running_server
from tts_provider import AsyncTTSClient
from tts_provider.audio.pcm import from_s16

DIGITS = ["two", "one", "four"]
TEXT = " ".join(DIGITS)
# Long enough that it is interrupted long before its end, in sentences that are spoken one by one.
LONG_TEXT = "seven eight nine three six. " * 200
WOMEN = {"cartesia": "f786b574-daa5-4673-aa0c-cbe3e8534c02", "deepgram": "aura-2-andromeda-en"}
MEN = {"cartesia": "86e30c1d-714b-4074-a1f2-1cb6b552fb49", "deepgram": "aura-2-orion-en"}


def hear(report: dict) -> float:
    """The median pitch of what must be the digits."""
    assert (report["errors"], report["sample_rates"]) == ([], [24_000])
    samples = from_s16(base64.b64decode(report["audio"]))
    assert hear_digits(samples) == DIGITS
    return median_pitch_hz(samples)


def url_of(server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(("voice", "is_woman"), [("marin", True), ("cedar", False)])
async def test_pipecats_openai(voice, is_woman):
    async with running_server() as server:
        arguments = (f"{url_of(server)}/v1", TEXT, voice)
        report = await run_program("pipecat_openai", "pipecat", *arguments)
        assert (hear(report) > 150) == is_woman


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_livekits_openai(model):
    async with running_server() as server:
        arguments = (f"{url_of(server)}/v1", TEXT, "ash", model)
        report = await run_program("livekit_openai", "livekit", *arguments)
        assert hear(report) < 150


@pytest.mark.parametrize("service", ["cartesia", "cartesia-http", "deepgram", "deepgram-http"])
async def test_pipecat(service):
    async with running_server(api_keys="k") as server:
        voice = WOMEN[service.removesuffix("-http")]
        arguments = (service, url_of(server), voice, TEXT)
        report = await run_program("pipecat_voice", "pipecat", *arguments)
        assert hear(report) > 150
        assert report["words"] == DIGITS


@pytest.mark.parametrize("service", ["cartesia", "deepgram"])
async def test_pipecat_interrupted(service):
    async with running_server(api_keys="k") as server:
        arguments = (service, url_of(server), MEN[service], TEXT, LONG_TEXT)
        report = await run_program("pipecat_voice", "pipecat", *arguments)
        assert hear(report) < 150
        assert report["words"] == DIGITS
        assert outcomes(server, service)["cancelled"] >= 1


@pytest.mark.parametrize("service", ["cartesia", "deepgram"])
async def test_livekit(service):
    async with running_server(api_keys="k") as server:
        arguments = (service, url_of(server), WOMEN[service], TEXT)
        report = await run_program("livekit_voice", "livekit", *arguments)
        assert hear(report["http"]) > 150
        assert hear(report["websocket"]) > 150
        # Of Deepgram's voices nobody is told.
        assert report["websocket"]["words"] == (DIGITS if service == "cartesia" else [])


@pytest.mark.parametrize("service", ["cartesia", "deepgram"])
async def test_livekit_interrupted(service):
    async with running_server(api_keys="k") as server:
        arguments = (service, url_of(server), MEN[service], TEXT, LONG_TEXT)
        report = await run_program("livekit_voice", "livekit", *arguments)
        assert hear(report["websocket"]) < 150
        await server.sockets.wait_closed()
        assert outcomes(server, service)["cancelled"] >= 1


@pytest.mark.parametrize("service", ["cartesia", "elevenlabs"])
@pytest.mark.parametrize(("framework", "tolerance"), [("pipecat", 1), ("livekit", 2)])
async def test_the_history_behind_an_interruption_is_what_was_heard(framework, tolerance, service):
    """LiveKit paces its transcript by syllables, and counts a word when it has ended."""
    text = "One two three four five six seven eight nine ten. And this is a second sentence."
    voice = {"cartesia": MEN["cartesia"], "elevenlabs": "pNInz6obpgDQGcFmaJgB"}[service]
    async with running_server(api_keys="k") as server:
        client = AsyncTTSClient(url_of(server), api_key="k")
        async with client.session(voice="male", words=True) as speech:
            speech.append(text)
            speech.end()
            assert [audio async for audio in speech]
            words = speech.words
        arguments = (service, url_of(server), voice, text, "1100,1500,2600,3300")
        told = await run_program(f"{framework}_history", framework, *arguments)
    assert len(told) == 4
    for reply in told:
        (heard,) = reply["history"]
        assert text.startswith(heard.strip())
        started = sum(word.start_ms <= reply["played_ms"] for word in words)
        assert abs(len(heard.split()) - started) <= tolerance, reply


def outcomes(server, endpoint: str) -> dict[str, float]:
    """How many requests to an endpoint ended in each way."""
    (metric,) = server.service.metrics.requests.collect()
    return {
        sample.labels["outcome"]: sample.value
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["endpoint"] == endpoint
    }
