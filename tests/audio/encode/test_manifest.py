from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from recordings import encode, speech, wav
from servers import ask, open_socket, receive, run_cli, running_server
from signing import make_identity
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.decode.decode_process import decode_with_manifest_once
from tts_provider.audio.encode.manifest import ManifestSigner, read_manifest
from tts_provider.errors import StartupError

TEXT = "The north wind and the sun."


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> tuple[Path, Path]:
    return make_identity(tmp_path_factory.mktemp("c2pa"))


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "flac"])
async def test_a_whole_reply_says_what_it_is_and_who_signed_it(audio_format, identity):
    chain, key = identity
    plain = {}
    for settings in ({"c2pa_cert": chain, "c2pa_key": key}, {}):
        async with running_server(**settings) as server, open_socket(server) as socket:
            reply = await ask(socket, text=TEXT, format=audio_format)
            data = await receive(socket)
        assert reply["length_bytes"] == len(data)
        plain[bool(settings)] = data
    manifest = read_manifest(plain[True])
    assert manifest is not None
    assert manifest.generator.startswith("tts-provider ")
    assert manifest.signer == "An operator"
    assert manifest.is_synthetic
    assert manifest.is_intact
    assert read_manifest(plain[False]) is None
    assert np.array_equal(decode_audio(plain[True]), decode_audio(plain[False]))


async def test_what_has_no_place_for_one_and_streams_stay_as_they_are(identity):
    chain, key = identity
    async with (
        running_server(c2pa_cert=chain, c2pa_key=key) as server,
        open_socket(server) as socket,
    ):
        await ask(socket, text=TEXT, format="opus")
        assert b"c2pa" not in await receive(socket)
        reply = await ask(socket, text=TEXT, format="wav", stream=True)
        assert reply["status"] == "streaming"
        data = b""
        while isinstance(message := await receive(socket), bytes):
            data += message
        assert read_manifest(data) is None


def test_the_command_reads_it(identity, tmp_path):
    signed = ManifestSigner(*identity).sign(wav(speech()), "wav")
    (tmp_path / "signed.wav").write_bytes(signed)
    told = run_cli(tmp_path, "detect", "signed.wav").stdout
    assert "; manifest of tts-provider " in told
    assert told.rstrip().endswith(", synthetic, signed by An operator, intact")


def test_what_was_changed_afterwards_is_not_intact(identity):
    signed = bytearray(ManifestSigner(*identity).sign(wav(speech()), "wav"))
    signed[2000] ^= 1
    manifest = read_manifest(signed)
    assert manifest is not None
    assert not manifest.is_intact


@pytest.mark.parametrize("data", [b"", b"RIFF", wav(speech()), encode(speech(), "opus"), b"\xff\0"])
def test_what_has_none_says_nothing(data):
    assert read_manifest(data) is None


async def test_a_large_file_has_its_read_within_the_bounds_of_its_process(identity):
    plain = io.BytesIO()
    with wave.open(plain, "wb") as file:
        file.setparams((4, 2, 43_000, 0, "NONE", ""))
        file.writeframes(bytes(295 * 43_000 * 8))  # 97 MiB, which the parser holds a second time
    signed = ManifestSigner(*identity).sign(plain.getvalue(), "wav")
    _, manifest = await decode_with_manifest_once(signed, max_bytes=len(signed), max_audio_s=300.0)
    assert manifest is not None
    assert manifest.is_intact


def test_what_cannot_sign_is_one_sentence_at_start(identity, tmp_path):
    chain, key = identity
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for certificate_path, key_path, problem in (
        (tmp_path / "none.pem", key, "cannot read --c2pa-cert"),
        (chain, text, "is no PEM key"),
        (text, key, "cannot sign"),
        (chain, key.with_name("other.pem"), "c2pa-key"),
    ):
        with pytest.raises(StartupError, match=problem):
            ManifestSigner(certificate_path, key_path)
