"""Deepgram's HTTP, asked by a plain client."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

import decoders
from ears import hear_digits, median_pitch_hz
from servers import GatedEngine, running_server
from tts_provider.server.dialects.deepgram.voices import VOICES

DIGITS = ["two", "one", "four"]


async def ask(server, key: str = "any", body: Any = None, **query) -> httpx2.Response:
    headers = {"Authorization": f"Token {key}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        return await client.post(
            "/v1/speak", params=query, headers=headers, json=body or {"text": "two one four"}
        )


@pytest.mark.parametrize(
    ("query", "name", "rate", "media_type"),
    [
        ({}, "mp3", 22_050, "audio/mpeg"),
        ({"encoding": "mp3", "bit_rate": 32_000}, "mp3", 22_050, "audio/mpeg"),
        ({"encoding": "linear16"}, "wav", 24_000, "audio/wav"),
        ({"encoding": "LINEAR16", "sample_rate": 8000}, "wav", 8000, "audio/wav"),
        (
            {"encoding": "linear16", "container": "none"},
            "pcm",
            24_000,
            "audio/l16;rate=24000;channels=1;endianness=little-endian",
        ),
        ({"encoding": "mulaw"}, "wav", 8000, "audio/wav"),
        (
            {"encoding": "mulaw", "container": "none", "sample_rate": 16_000},
            "mulaw",
            16_000,
            "audio/mulaw;rate=16000",
        ),
        ({"encoding": "alaw", "container": "none"}, "alaw", 8000, "audio/alaw;rate=8000"),
        ({"encoding": "opus"}, "opus", 48_000, "audio/ogg;codecs=opus"),
        ({"encoding": "flac"}, "flac", 48_000, "audio/flac"),
        ({"encoding": "aac"}, "aac", 22_050, "audio/aac"),
        ({"container": ""}, "mp3", 22_050, "audio/mpeg"),
    ],
)
async def test_every_encoding(query, name, rate, media_type):
    async with running_server() as server:
        reply = await ask(server, **query)
    assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
    samples, read_rate, _ = decoders.decode(reply.content, name, rate)
    assert (read_rate, hear_digits(samples, rate)) == (rate, DIGITS)


async def test_models_are_a_man_and_a_woman():
    body = {"text": "How are you all today?"}
    async with running_server(voice_aliases={"aura-2-zeus-en": "female"}) as server:
        for name, is_woman in [
            ("aura-2-thalia-en", True),
            ("Aura-Orion-EN", False),
            ("aura-2-zeus-en", True),  # as the operator says
            ("male", False),
            ("", False),
        ]:
            query = {"encoding": "linear16", "model": name}
            reply = await ask(server, body=body, **query)
            samples, rate, _ = decoders.decode(reply.content, "wav", 24_000)
            assert (median_pitch_hz(samples, rate) > 150) == is_woman, name
    assert set(VOICES.values()) == {0, 1}


async def test_speed():
    lengths = []
    async with running_server() as server:
        for speed in (1.5, 0.75):
            reply = await ask(server, encoding="mulaw", container="none", speed=speed)
            lengths.append(len(reply.content))
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.15)


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ({"model": "nobody"}, None, 400, "unknown_voice"),
        ({"encoding": "mp4"}, None, 400, "invalid_value"),
        ({"encoding": "opus", "container": "wav"}, None, 400, "invalid_value"),
        ({"encoding": "opus", "sample_rate": 44_100}, None, 400, "invalid_value"),
        ({"sample_rate": 11_000}, None, 400, "invalid_value"),
        ({"sample_rate": "high"}, None, 400, "invalid_type"),
        ({"bit_rate": 1}, None, 400, "invalid_value"),
        ({"bit_rate": 4000}, None, 400, "invalid_value"),
        ({"bit_rate": 64_001, "sample_rate": 8000}, None, 400, "invalid_value"),
        ({"encoding": "aac", "sample_rate": 8000, "bit_rate": 64_000}, None, 400, "invalid_value"),
        ({"speed": 9}, None, 400, "invalid_value"),
        ({"callback": "https://example.com/"}, None, 400, "invalid_value"),
        ({}, {"url": "https://example.com/"}, 400, "no_text"),
        ({}, {"text": " "}, 400, "no_text"),
        ({}, {"text": 5}, 400, "invalid_type"),
        ({}, {"text": "\0"}, 400, "invalid_text"),
        ({}, {"text": "a" * 20_001}, 400, "text_too_long"),
        ({}, {"text": "..."}, 422, "no_speech"),
        ({}, [5], 400, "invalid_type"),
    ],
)
async def test_bad_requests(query, body, status, code):
    async with running_server() as server:
        reply = await ask(server, body=body, **query)
    error = reply.json()
    assert (reply.status_code, error["err_code"]) == (status, code)
    assert set(error) == {"err_code", "err_msg", "request_id"}
    assert reply.headers["dg-error"] == error["err_msg"]


async def test_keys_and_loading():
    async with running_server(api_keys="k") as server:
        reply = await ask(server, "wrong")
        assert (reply.status_code, reply.json()["err_code"]) == (401, "INVALID_AUTH")
        assert (await ask(server, "k")).status_code == 200
    async with running_server(GatedEngine()) as server:
        reply = await ask(server)
        assert (reply.status_code, reply.json()["err_code"]) == (503, "loading")


async def test_an_error_in_a_header_is_one_line_of_ascii():
    async with running_server() as server:
        reply = await ask(server, model="né\nbody\r\nset-cookie: a=b")
        assert reply.status_code == 400
        assert "set-cookie" not in reply.headers
        assert reply.headers["dg-error"].isascii()
