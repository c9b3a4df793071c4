"""Cartesia's own Python package, with nothing changed but its URL."""

from __future__ import annotations

import base64

import decoders
from clients.programs import run_program
from ears import hear_digit, hear_digits, median_pitch_hz
from servers import running_server
from tts_provider.audio.pcm import from_s16

DIGITS = ["two", "one", "four"]
LONG_TEXT = "seven eight nine three six. " * 200


async def test_the_package():
    async with running_server(api_keys="k") as server:
        url = f"http://127.0.0.1:{server.port}"
        arguments = (url, "k", " ".join(DIGITS), LONG_TEXT)
        report = await run_program("cartesia_client", "cartesia", *arguments)
        voices = [voice.id for voice in await server.service.voices()]
    pitches = {}
    for name in ("sse", "websocket", "first", "second"):
        samples = from_s16(base64.b64decode(report[name]))
        assert hear_digits(samples) == DIGITS, name
        pitches[name] = median_pitch_hz(samples)
    assert pitches["sse"] < 150 < pitches["websocket"]
    assert pitches["second"] < 150 < pitches["first"]
    for name in ("wav", "mp3"):
        samples, rate, _ = decoders.decode(base64.b64decode(report[name]), name, 44_100)
        assert (hear_digits(samples, rate), rate) == (DIGITS, 44_100)
    assert (report["sse_kinds"], report["sse_contexts"]) == (["chunk", "done", "timestamps"], ["c"])
    assert report["websocket_kinds"] == ["chunk", "done", "timestamps"]
    for name in ("sse", "websocket"):
        words = report[f"{name}_words"]
        assert [word for word, _, _ in words] == DIGITS
        samples = from_s16(base64.b64decode(report[name]))
        heard = [hear_digit(samples[int(a * 24_000) : int(b * 24_000)]) for _, a, b in words]
        assert heard == DIGITS, name
    assert report["first_kinds"] == ["flush_done", "done"]
    assert report["second_kinds"] == ["done"]
    assert (report["wrong"], report["wrong_kinds"]) == ("", ["error"])
    assert report["voices"] == voices  # from several pages
    assert report["women"] == ["female"]
    assert report["voice"] == "male"
    assert report["errors"] == {
        "voice": ["BadRequestError", "unknown_voice"],
        "format": ["BadRequestError", "invalid_value"],
        "unknown": ["NotFoundError", "unknown_voice"],
        "key": ["AuthenticationError", "unauthorized"],
    }
