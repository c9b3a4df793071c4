from __future__ import annotations

import json

import httpx2
import numpy as np
import pytest

import recordings
from servers import run_cli, running_server
from tts_provider.audio.watermark.weights import importlib as package_importlib
from tts_provider.server.dialects.detect import PATH

TEXT = "The north wind and the sun were disputing which was the stronger of the two."


async def speak(server, audio_format: str) -> bytes:
    async with httpx2.AsyncClient(timeout=60) as client:
        reply = await client.post(
            f"http://127.0.0.1:{server.port}/v1/audio/speech",
            json={"input": TEXT, "response_format": audio_format},
        )
    assert reply.status_code == 200
    return reply.content


async def look(server, data: bytes, name: str = "audio") -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        files = {name: ("x", data)}
        return await client.post(f"http://127.0.0.1:{server.port}{PATH}", files=files)


@pytest.mark.parametrize("audio_format", ["mp3", "wav", "flac", "opus"])
async def test_what_was_spoken_here_is_found_by_its_mark_and_its_tag(audio_format):
    async with running_server(watermark="on") as server:
        reply = await look(server, await speak(server, audio_format))
    assert reply.status_code == 200
    found = reply.json()
    assert found["watermark"]["found"]
    assert 0.6 <= found["watermark"]["score"] <= 1
    (place,) = found["watermark"]["places"]
    assert 0 <= place["start_ms"] < place["end_ms"] <= found["duration_ms"]
    assert found["tag"].startswith("tts-provider ")


async def test_a_recording_of_others_has_neither():
    async with running_server() as server:
        data = recordings.encode(recordings.speech(), "mp3")
        found = (await look(server, data)).json()
    assert not found["watermark"]["found"]
    assert (found["watermark"]["places"], found["tag"]) == ([], None)
    assert found["watermark"]["score"] < 0.6


async def test_without_the_package_only_the_tag_is_looked_for(monkeypatch):
    async with running_server() as server:
        data = await speak(server, "wav")

        def missing(name: str) -> None:
            raise package_importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(package_importlib.metadata, "version", missing)
        found = (await look(server, data)).json()
    assert found["watermark"] is None
    assert found["tag"].startswith("tts-provider ")


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"no audio at all", "audio", "unsupported_audio"),
        (b"", "audio", "invalid_audio"),
        (b"RIFF", "file", "invalid_value"),
        (recordings.wav(np.zeros(24_000 * 61, np.float32)), "audio", "audio_too_long"),
    ],
)
async def test_what_cannot_be_looked_at_is_said(data, name, code):
    async with running_server() as server:
        reply = await look(server, data, name)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert reply.json()["error"]["param"] == "audio"


async def test_the_command_says_the_same(tmp_path):
    async with running_server(watermark="on") as server:
        (tmp_path / "ours.mp3").write_bytes(await speak(server, "mp3"))
    (tmp_path / "theirs.wav").write_bytes(recordings.wav(recordings.speech()))
    told = run_cli(tmp_path, "detect", "ours.mp3", "theirs.wav")
    assert told.returncode == 0
    ours, theirs = told.stdout.splitlines()
    assert ours.startswith("ours.mp3: watermark at ")
    assert "; tag of tts-provider " in ours
    assert ours.endswith("; no manifest")
    assert theirs.startswith("theirs.wav: no watermark (score 0.")
    assert theirs.endswith("; no tag; no manifest")
    (line,) = run_cli(tmp_path, "detect", "--json", "ours.mp3").stdout.splitlines()
    told = json.loads(line)
    assert told["file"] == "ours.mp3"
    assert told["watermark"]["found"]
    assert told["manifest"] is None
    failed = run_cli(tmp_path, "detect", "nowhere.wav")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "cannot read nowhere.wav" in failed.stderr
