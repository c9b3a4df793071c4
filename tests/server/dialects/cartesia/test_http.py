"""Cartesia's HTTP, asked by a plain client."""

from __future__ import annotations

import base64
import contextlib
import json

import httpx2
import pytest

import decoders
from ears import hear_digits, median_pitch_hz
from servers import GatedEngine, SteppedEngine, running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.errors import EngineFailed
from tts_provider.server.dialects.cartesia.voices import VOICES

DIGITS = ["two", "one", "four"]
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
REQUEST = {
    "model_id": "sonic-3",
    "transcript": "two one four",
    "voice": {"mode": "id", "id": "male"},
    "output_format": RAW,
}


def client_of(server, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers)


async def ask(server, path: str, **fields) -> httpx2.Response:
    async with client_of(server) as client:
        return await client.post(path, json={**REQUEST, **fields})


def events_of(reply: httpx2.Response) -> list[dict]:
    *events, rest = reply.text.split("\n\n")
    assert rest == ""
    told = []
    for event in events:
        kind, data = event.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {told[-1]['type']}"
    return told


@pytest.mark.parametrize("container", ["raw", "wav"])
@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"])
async def test_every_encoding(container, encoding):
    output = {"container": container, "encoding": encoding, "sample_rate": 16_000}
    async with running_server() as server:
        reply = await ask(server, "/tts/bytes", output_format=output)
    assert reply.status_code == 200
    bare = {"pcm_s16le": "pcm"}.get(encoding, encoding.removeprefix("pcm_"))
    name = "wav" if container == "wav" else bare
    samples, rate, _ = decoders.decode(reply.content, name, 16_000)
    assert (rate, hear_digits(samples, rate)) == (16_000, DIGITS)


async def test_a_break_is_a_silence_and_a_word_is_spelt():
    async with running_server() as server:
        plain, broken, spelt, letters = [
            (await ask(server, "/tts/bytes", transcript=text)).content
            for text in (
                "Two. One, four.",
                'Two.<break time="1500ms"/> One, four.',
                "Say <spell>Ab1</spell>.",
                "Say A b one.",
            )
        ]
    assert len(broken) - len(plain) == 2 * 24_000 * 3 // 2
    assert spelt == letters


async def test_mp3():
    sizes = []
    async with running_server() as server:
        for bits in (32_000, 128_000):
            output = {"container": "mp3", "sample_rate": 44_100, "bit_rate": bits}
            reply = await ask(server, "/tts/bytes", output_format=output)
            assert reply.headers["content-type"] == "audio/mpeg"
            samples, rate, _ = decoders.decode(reply.content, "mp3", 44_100)
            assert hear_digits(samples, rate) == DIGITS
            sizes.append(len(reply.content))
    assert sizes[1] > 3 * sizes[0]


async def test_events_are_the_same_audio():
    async with running_server() as server:
        whole = await ask(server, "/tts/bytes")
        reply = await ask(server, "/tts/sse", context_id="c")
        assert reply.headers["content-type"].split(";")[0] == "text/event-stream"
        *chunks, done = events_of(reply)
        assert {(event["type"], event["context_id"]) for event in chunks} == {("chunk", "c")}
        assert b"".join(base64.b64decode(event["data"]) for event in chunks) == whole.content
        assert (done["type"], done["done"]) == ("done", True)


@pytest.mark.parametrize("wanted", [True, False])
async def test_events_have_the_times_of_words_where_they_are_asked_for(wanted):
    async with running_server() as server:
        text = "One. It is $5, Dr. Smith!"
        reply = await ask(server, "/tts/sse", transcript=text, add_timestamps=wanted)
        events = events_of(reply)
        assert all(event["data"] for event in events if event["type"] == "chunk")
        tables = [e["word_timestamps"] for e in events if e["type"] == "timestamps"]
        told = [word for table in tables for word in table["words"]]
        assert told == (text.split() if wanted else [])
        starts = [start for table in tables for start in table["start"]]
        assert starts == sorted(starts)


async def test_well_known_voices_are_a_man_and_a_woman():
    async with running_server() as server:
        for voice, speaker in VOICES.items():
            reply = await ask(server, "/tts/bytes", voice=voice, transcript="How are you today?")
            assert (median_pitch_hz(from_s16(reply.content)) > 150) == speaker, voice


async def test_voices():
    aliases = {"f786b574-daa5-4673-aa0c-cbe3e8534c02": "male"}
    async with running_server(voice_aliases=aliases) as server, client_of(server) as client:

        async def page(**query) -> tuple[list[str], bool]:
            body = (await client.get("/voices", params=query)).json()
            return [voice["id"] for voice in body["data"]], body["has_more"]

        (voice, *_) = (await client.get("/voices")).json()["data"]
        assert voice["id"] == "male"
        assert (voice["gender"], voice["language"]) == ("masculine", "en")
        everybody = [voice.id for voice in await server.service.voices()]
        assert await page() == (everybody[:10], True)
        assert await page(limit=1) == (everybody[:1], True)
        assert await page(limit=2, starting_after=everybody[0]) == (everybody[1:3], True)
        assert await page(starting_after=everybody[-2]) == (everybody[-1:], False)
        assert await page(starting_after=everybody[-1]) == ([], False)
        assert await page(ending_before=everybody[1]) == (everybody[:1], False)
        assert await page(limit=1, ending_before=everybody[2]) == (everybody[1:2], True)
        assert (await page(q="FEM"))[0] == ["female"]
        assert "male" not in (await page(gender="feminine"))[0]
        for name in ("male", *aliases):
            assert (await client.get(f"/voices/{name}")).json()["id"] == "male"


@pytest.mark.parametrize("path", ["/tts/bytes", "/tts/sse"])
@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"transcript": None}, 400, "no_text"),
        ({"transcript": " "}, 400, "no_text"),
        ({"transcript": 5}, 400, "invalid_type"),
        ({"transcript": "\0"}, 400, "invalid_text"),
        ({"transcript": "a" * 20_001}, 400, "text_too_long"),
        ({"transcript": "..."}, 422, "no_speech"),
        ({"voice": "nobody"}, 400, "unknown_voice"),
        ({"voice": {"mode": "embedding", "embedding": [0.1]}}, 400, "unknown_voice"),
        ({"output_format": None}, 400, "invalid_value"),
        ({"output_format": {**RAW, "encoding": "pcm_s8"}}, 400, "invalid_value"),
        ({"output_format": {**RAW, "container": "mp3", "bit_rate": 1}}, 400, "invalid_value"),
        ({"output_format": {**RAW, "container": "mp3", "bit_rate": 192_000}}, 400, "invalid_value"),
    ],
)
async def test_bad_requests(path, fields, status, code):
    async with running_server() as server:
        reply = await ask(server, path, **fields)
    error = reply.json()
    assert (reply.status_code, error["error_code"]) == (status, code)
    assert set(error) == {"title", "message", "error_code", "status_code"}
    assert error["status_code"] == status


@pytest.mark.parametrize("path", ["/tts/bytes", "/tts/sse"])
@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"\xff", b"[" * 50_000])
async def test_what_is_no_json(path, body):
    headers = {"Content-Type": "application/json"}
    async with running_server() as server, client_of(server, **headers) as client:
        reply = await client.post(path, content=body)
        assert reply.status_code == 400
        assert reply.json()["error_code"] in ("invalid_json", "invalid_type")


async def test_what_else_is_refused():
    async with running_server(api_keys="k") as server:
        async with client_of(server, **{"X-API-Key": "k"}) as client:
            for path, status, code in [
                ("/voices/nobody", 404, "unknown_voice"),
                ("/voices?limit=0", 400, "invalid_value"),
                ("/voices?starting_after=nobody", 400, "invalid_value"),
                ("/tts/bytes", 405, "method_not_allowed"),
                ("/tts/nothing", 404, "not_found"),
            ]:
                reply = await client.get(path)
                assert (reply.status_code, reply.json()["error_code"]) == (status, code), path
        async with client_of(server) as client:
            reply = await client.get("/voices")
            assert (reply.status_code, reply.json()["error_code"]) == (401, "unauthorized")


async def test_containers_are_not_for_events():
    async with running_server() as server:
        reply = await ask(server, "/tts/sse", output_format={**RAW, "container": "wav"})
        assert (reply.status_code, reply.json()["error_code"]) == (400, "invalid_value")


async def test_who_comes_too_early_comes_back():
    async with running_server(GatedEngine()) as server:
        reply = await ask(server, "/tts/bytes")
        assert (reply.status_code, reply.json()["error_code"]) == (503, "loading")
        assert int(reply.headers["retry-after"]) > 0


async def test_what_fails_within_events_is_told():
    engine = SteppedEngine()
    speak = engine.speak

    async def break_off(utterance):
        async for chunk in speak(utterance):
            yield chunk
            raise EngineFailed("the engine broke")

    engine.speak = break_off
    async with running_server(engine) as server:
        engine.allow()
        async with client_of(server) as client:
            async with client.stream("POST", "/tts/sse", json=REQUEST) as reply:
                data = b""
                with contextlib.suppress(httpx2.TransportError):
                    async for piece in reply.aiter_bytes():
                        data += piece
    last = json.loads(data.split(b"data: ")[-1])
    assert (last["type"], last["error_code"], last["done"]) == ("error", "engine_failed", False)
