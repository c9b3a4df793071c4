"""Deepgram's own Python package, with nothing changed but its URL."""

from __future__ import annotations

import base64

import decoders
from clients.programs import run_program
from ears import hear_digits, median_pitch_hz
from servers import running_server
from tts_provider.audio.pcm import from_s16

DIGITS = ["two", "one", "four"]
LONG_TEXT = "seven eight nine three six. " * 200
RATES = {"mp3": 22_050, "wav": 32_000, "mulaw": 8000, "opus": 48_000, "flac": 48_000, "aac": 22_050}


async def test_the_package():
    async with running_server(api_keys="k") as server:
        url = f"http://127.0.0.1:{server.port}"
        arguments = (url, "k", " ".join(DIGITS), LONG_TEXT)
        report = await run_program("deepgram_client", "deepgram", *arguments)
    for name, rate in RATES.items():
        samples, read_rate, _ = decoders.decode(base64.b64decode(report[name]), name, rate)
        assert (hear_digits(samples, rate), read_rate) == (DIGITS, rate), name
    samples = from_s16(base64.b64decode(report["websocket"]))
    assert hear_digits(samples) == DIGITS
    assert median_pitch_hz(samples) > 150
    assert report["models"][:2] == [["male", ["en-US"]], ["female", ["en-US"]]]
    assert report["cleared"] == ["Cleared"]
    assert report["flushed"] == ["Flushed"]
    assert report["warned"] == ["Warning"]
    assert report["closed"] == []
    status, reason = report["errors"].pop("socket")
    assert status == 401
    assert "key is not valid" in reason
    assert report["errors"] == {"voice": [400, "unknown_voice"], "key": [401, "INVALID_AUTH"]}
