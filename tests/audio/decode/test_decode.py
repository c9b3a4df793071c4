"""Uploads of every format, damaged and forged."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from ears import median_pitch_hz
from recordings import FORMATS, encode, speech, wav
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.errors import InvalidRequest


def code_of(data: bytes, **limits) -> str | None:
    try:
        decode_audio(data, **limits)
    except InvalidRequest as problem:
        assert problem.param == "audio"  # noqa: PT017
        return problem.code
    return None


def is_the_same_speech(heard: np.ndarray, said: np.ndarray) -> bool:
    """Compressed, so alike and not equal; and possibly a little later."""
    assert heard.dtype == np.float32
    assert abs(len(heard) - len(said)) < 24_000 * 0.2
    size = 1 << (len(heard) + len(said)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)))
    return product.max() > 0.9 * np.linalg.norm(heard) * np.linalg.norm(said)


@pytest.mark.parametrize("kind", ["<u1", "<i2", "<i3", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav(kind, channels):
    said = speech()
    heard = decode_audio(wav(said, kind, channels=channels))
    np.testing.assert_allclose(heard, said, atol=0.012 if kind == "<u1" else 1e-4)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (48_000, 2)])
def test_compressed(name, rate, channels):
    heard = decode_audio(encode(speech(), name, rate=rate, channels=channels))
    assert is_the_same_speech(heard, speech())


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 96_000, 192_000])
def test_every_rate_comes_out_at_24_khz(rate):
    heard = decode_audio(encode(speech(), "flac", rate=rate))
    assert abs(len(heard) - len(speech())) < 24
    assert median_pitch_hz(heard) == pytest.approx(median_pitch_hz(speech()), rel=0.03)


@pytest.mark.parametrize("kind", ["mulaw", "alaw"])
def test_a_telephones_wav(kind):
    from tts_provider.audio.encode.g711 import to_alaw, to_mulaw

    to_bytes = {"mulaw": to_mulaw, "alaw": to_alaw}[kind]
    data = to_bytes(np.asarray(speech()))
    tag = {"mulaw": 7, "alaw": 6}[kind]
    header = bytearray(wav(np.zeros(0), "<u1", tag=tag, data_bytes=len(data)))
    assert is_the_same_speech(decode_audio(bytes(header) + data), speech())


def test_streams_whose_header_has_no_length():
    whole = wav(speech())
    assert len(decode_audio(wav(speech(), data_bytes=0xFFFF_FFFF))) == len(speech())
    assert len(decode_audio(whole[: len(whole) // 2])) == pytest.approx(len(speech()) / 2, abs=50)
    # As a browser's MediaRecorder sends it: no length, no index, and cut off at the end.
    live = encode(speech(), "webm", rate=48_000, container_options={"live": "1"})
    assert is_the_same_speech(decode_audio(live), speech())
    fragments = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    assert is_the_same_speech(
        decode_audio(encode(speech(), "m4a", container_options=fragments)), speech()
    )


def test_tags_and_what_surrounds_the_audio():
    mp3 = encode(speech(), "mp3")
    tagged = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + bytes(256) + mp3 + b"TAG" + bytes(125)
    assert is_the_same_speech(decode_audio(tagged), speech())
    chunks = wav(speech())
    chunks = chunks[:12] + struct.pack("<4sI", b"LIST", 5) + bytes(6) + chunks[12:]
    assert len(decode_audio(chunks)) == len(speech())


def test_surround_sound():
    """More channels than 7 crash PyAV, so the file is made by hand: FLAC's frame header says 8."""
    assert is_the_same_speech(decode_audio(wav(speech(), channels=6)), speech())
    assert code_of(wav(speech()[:1000], channels=8)) == "unsupported_audio"
    flac = bytearray(encode(speech(), "flac"))
    for at in range(len(flac) - 4):
        if flac[at : at + 2] == b"\xff\xf8":
            flac[at + 3] = 0x70 | flac[at + 3] & 0x0F
    flac[20] = flac[20] & 0xF1 | 7 << 1  # STREAMINFO
    assert code_of(bytes(flac)) in ("unsupported_audio", "invalid_audio")


def test_limits():
    said = speech()
    for name in FORMATS:
        assert code_of(encode(said, name), max_audio_s=5.0) == "audio_too_long", name
    assert code_of(wav(said), max_audio_s=5.0) == "audio_too_long"
    assert code_of(wav(said), max_bytes=1000) == "audio_too_large"
    assert code_of(wav(said[: 24_000 * 5]), max_audio_s=5.0) is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_audio"),
        (b"RIFF", "invalid_audio"),
        (b"RIFF\0\0\0\0WAVE", "invalid_audio"),
        (b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd", "invalid_audio"),
        (wav(np.zeros(0)), "invalid_audio"),
        (wav(np.full(24_000, np.nan), "<f4"), "invalid_audio"),
        (wav(np.zeros(9), rate_said=0), "invalid_audio"),
        (wav(np.zeros(9), rate_said=1), "unsupported_audio"),
        (wav(np.zeros(9), rate_said=4_000_000_000), "invalid_audio"),
        (wav(np.zeros(9), channels_said=0), "invalid_audio"),
        (wav(np.zeros(9), channels=64), "unsupported_audio"),
        (wav(np.zeros(9), tag=85), "invalid_audio"),
        (b"ID3", "invalid_audio"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(99), "invalid_audio"),
        (b"\xff\xfb" + bytes(9999), "invalid_audio"),
        (b"fLaC" + bytes(999), "invalid_audio"),
        (b"OggS" + bytes(999), "invalid_audio"),
        (b"\x1a\x45\xdf\xa3" + bytes(999), "invalid_audio"),
        (b"\0\0\0\x10ftypM4A \0\0\0\0", "invalid_audio"),
        (b"GIF89a" + bytes(999), "unsupported_audio"),
        (b"<html>not found</html>", "unsupported_audio"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "unsupported_audio"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "unsupported_audio"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "unsupported_audio"),
    ],
)
def test_what_is_no_audio_has_a_code(data, code):
    assert code_of(data) == code


def test_a_forged_length_is_not_believed():
    flac = bytearray(encode(speech(), "flac"))
    flac[21:26] = bytes([flac[21] | 0x0F, 255, 255, 255, 255])  # STREAMINFO: 2**36 samples
    assert len(decode_audio(bytes(flac))) == pytest.approx(len(speech()), abs=5000)
    assert len(decode_audio(wav(speech(), data_bytes=0x7FFF_FFFF))) == len(speech())


def test_500_damaged_files_are_told_so_or_heard():
    draw = random.Random(6)
    short = speech()[: 24_000 * 2]
    files = [wav(short), *(encode(short, name) for name in FORMATS)]
    for number in range(500):
        data = bytearray(files[number % len(files)])
        for _ in range(draw.randint(1, 30)):
            # Headers are where damage matters.
            at = draw.randrange(min(len(data), draw.choice([64, 512, 1 << 20])))
            data[at] = draw.randrange(256)
        assert code_of(bytes(data)) in (
            None,
            "invalid_audio",
            "unsupported_audio",
            "audio_too_long",
        )
