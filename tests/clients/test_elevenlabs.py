"""ElevenLabs' own package, and agent frameworks' classes for it, with nothing changed but the
URL."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator

import trustme

import decoders
from clients.programs import run_program
from ears import hear_digits, median_pitch_hz
from servers import running_server
from tts_provider.audio.pcm import from_s16

DIGITS = ["two", "one", "four"]
TEXT = " ".join(DIGITS)
RACHEL, ADAM = "21m00Tcm4TlvDq8ikWAM", "pNInz6obpgDQGcFmaJgB"


def hear(report: dict) -> float:
    """The median pitch of what must be the digits."""
    assert report["errors"] == []
    (rate,) = report["sample_rates"]
    samples = from_s16(base64.b64decode(report["audio"]))
    assert hear_digits(samples, rate) == DIGITS
    return median_pitch_hz(samples, rate)


def check_words(report: dict, way: str) -> None:
    """What the framework's transcript has, and when it begins."""
    assert [word.strip() for word, _ in report["words"]] == DIGITS, way
    times = [time for _, time in report["words"]]
    assert times == sorted(times), way


@contextlib.asynccontextmanager
async def behind_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """A port that forwards to `port` what comes over TLS, as a proxy does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    tasks = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, back), (there, writer)):
            tasks.add(asyncio.ensure_future(pump(*pair)))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)


async def test_the_package(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with running_server(api_keys="k") as server:
        async with behind_tls(server.port, ca.issue_cert("localhost")) as tls_port:
            urls = f"http://127.0.0.1:{server.port}", f"https://localhost:{tls_port}"
            arguments = (*urls, str(tmp_path / "ca.pem"), "k", TEXT, RACHEL, ADAM)
            report = await run_program("elevenlabs_client", "elevenlabs", *arguments)
    for way in ("convert", "stream", "convert_realtime"):
        data = base64.b64decode(report[way])
        samples, rate, _ = decoders.decode(data, "mp3", 44_100)
        assert (hear_digits(samples, rate), rate) == (DIGITS, 44_100), way
        assert median_pitch_hz(samples, rate) > 150
    for way in ("convert_with_timestamps", "stream_with_timestamps"):
        assert hear_digits(from_s16(base64.b64decode(report[way]))) == DIGITS, way
    scene = from_s16(base64.b64decode(report["dialogue"]))
    for way in ("stream", "with_timestamps", "stream_with_timestamps"):
        assert report[f"dialogue_{way}"] == report["dialogue"], way
    assert median_pitch_hz(scene[: len(scene) // 3]) > 150
    assert median_pitch_hz(scene[-len(scene) // 3 :]) < 150
    assert report["voice_segments"][0] == [[RACHEL, 0], [ADAM, 1]]
    streamed = [segment for line in report["voice_segments"][1:] for segment in line]
    assert streamed == report["voice_segments"][0]
    status, body = report["wrong_dialogue"]
    assert (status, body["detail"]["code"]) == (400, "no_text")
    whole, *lines = report["characters"]
    assert whole == TEXT
    assert [line for line in lines if line] == [TEXT]  # behind lines that have only audio
    assert (report["voices"][:2], report["search"]) == (["male", "female"], ["female"])
    assert report["voice"] == "female"
    assert report["models"] == [["espeak-ng", True]]
    assert (report["status"], report["tier"]) == ("active", "self-hosted")
    for name, status, code in (
        ("wrong_voice", 404, "voice_not_found"),
        ("wrong_format", 400, "invalid_value"),
        ("wrong_key", 401, "invalid_api_key"),
    ):
        got, body = report[name]
        assert (got, body["detail"]["code"]) == (status, code)
    status, body = report["wrong_text"]
    assert (status, body["error"]) == (1008, "no_speech")


async def test_pipecat():
    async with running_server(api_keys="k") as server:
        arguments = (f"http://127.0.0.1:{server.port}", "k", TEXT, RACHEL)
        report = await run_program("pipecat_elevenlabs", "pipecat", *arguments)
        for way in ("websocket", "http", "interrupted"):
            assert hear(report[way]) > 150, way
            check_words(report[way], way)


async def test_livekit():
    async with running_server(api_keys="k") as server:
        arguments = (f"http://127.0.0.1:{server.port}", "k", TEXT, ADAM)
        report = await run_program("livekit_elevenlabs", "livekit", *arguments)
        for way in ("websocket", "http", "interrupted"):
            for name in (way, f"dialogue_{way}"):
                assert hear(report[name]) < 150, name
                if way != "http":  # it asks for none
                    check_words(report[name], name)
        assert report["voices"][:2] == ["male", "female"]
