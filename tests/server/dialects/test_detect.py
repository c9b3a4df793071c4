from __future__ import annotations

import json
import struct

import httpx2
import numpy as np
import pytest

import recordings
from servers import ask, open_socket, receive, run_cli, running_server
from signing import make_identity
from tts_provider.audio.encode.manifest import ManifestSigner
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
    is_tagged = audio_format != "wav"  # a stream of WAV has no place for it
    assert (found["tag"] or "").startswith("tts-provider ") is is_tagged


async def test_a_wav_whose_length_is_known_has_the_tag():
    async with running_server() as server, open_socket(server) as socket:
        await ask(socket, text=TEXT)
        found = (await look(server, await receive(socket))).json()
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
        data = await speak(server, "mp3")

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


@pytest.fixture(scope="module", name="signer")
def make_signer(tmp_path_factory) -> ManifestSigner:
    return ManifestSigner(*make_identity(tmp_path_factory.mktemp("c2pa")))


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "flac"])
async def test_a_manifest_is_read_and_what_was_changed_is_not_intact(signer, audio_format):
    samples = recordings.speech()[:24_000]
    plain = (
        recordings.wav(samples)
        if audio_format == "wav"
        else recordings.encode(samples, audio_format)
    )
    signed = signer.sign(plain, audio_format)
    changed = bytearray(signed)
    # Within the audio: a WAV's manifest comes last, the others' first.
    changed[2000 if audio_format == "wav" else -2000] ^= 1
    async with running_server() as server:
        found, altered, none = [
            (await look(server, bytes(data))).json() for data in (signed, changed, plain)
        ]
    manifest = found["manifest"]
    assert manifest.pop("generator").startswith("tts-provider ")
    assert manifest == {"signer": "An operator", "is_intact": True, "is_synthetic": True}
    assert not altered["manifest"]["is_intact"]
    assert none["manifest"] is None


async def test_what_looks_like_a_manifest_is_borne(signer):
    plain = recordings.wav(recordings.speech()[:24_000])
    store = store_of(signer.sign(plain, "wav"))
    random = np.random.default_rng(0)
    scratched = bytearray(store)
    for place in random.integers(0, len(store), 20):
        scratched[place] ^= 0xFF
    hostile = [
        random.bytes(50_000),
        store[: len(store) // 2],
        bytes(scratched),
        nested(100_000),
        struct.pack(">I4sQ", 1, b"jumb", 1 << 40) + nested(1)[8:],
    ]
    async with running_server() as server:
        for content in hostile:
            reply = await look(server, with_store(plain, content))
            assert reply.status_code in (200, 400), reply.text
            if reply.status_code == 200:
                assert reply.json()["manifest"] is None
            else:
                assert reply.json()["error"]["code"] in ("invalid_audio", "audio_too_costly")
        found = (await look(server, with_store(plain, store))).json()
    assert found["manifest"]["is_intact"]


def store_of(signed: bytes) -> bytes:
    """What is in a WAV's chunk for manifests: boxes, JUMBF's."""
    at = signed.index(b"C2PA") + 4
    (size,) = struct.unpack_from("<I", signed, at)
    return signed[at + 4 : at + 4 + size]


def with_store(plain: bytes, content: bytes) -> bytes:
    chunk = b"C2PA" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return plain[:4] + struct.pack("<I", len(plain) + len(chunk) - 8) + plain[8:] + chunk


def nested(depth: int) -> bytes:
    """A box in a box in a box."""
    kind = bytes.fromhex("6332706100110010800000aa00389b71") + b"\x03c2pa\0"
    description = struct.pack(">I4s", 8 + len(kind), b"jumd") + kind
    size = 8 + len(description)
    return b"".join(
        struct.pack(">I4s", size * (depth - level), b"jumb") + description for level in range(depth)
    )


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
