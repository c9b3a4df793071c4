from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider import __version__
from tts_provider.audio.encode.tag import find_tag
from tts_provider.audio.pcm import (
    SAMPLE_RATES,
    WAV_MULAW,
    WAV_PCM,
    Resampler,
    from_s16,
    to_s16,
    wav_data_at,
    wav_header,
    wav_tag,
)


def test_full_scale_and_beyond():
    samples = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0], np.float32)
    assert np.frombuffer(to_s16(samples), "<i2").tolist() == [
        -32767,
        -32767,
        0,
        16384,
        32767,
        32767,
    ]


@given(st.lists(st.integers(-32767, 32767)))
def test_bytes_survive_the_round_trip(values):
    data = np.array(values, "<i2").tobytes()
    restored = np.frombuffer(to_s16(from_s16(data)), "<i2").astype(int)
    assert np.abs(restored - np.array(values, int)).max(initial=0) <= 1


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_wav_header_with_and_without_a_length(rate):
    audio = to_s16(np.zeros(100, np.float32))
    with wave.open(io.BytesIO(wav_header(rate, len(audio)) + audio)) as file:
        assert (file.getframerate(), file.getnframes()) == (rate, 100)
    with wave.open(io.BytesIO(wav_header(rate) + audio)) as file:
        assert file.getframerate() == rate
        assert len(file.readframes(2**20)) == len(audio)


@pytest.mark.parametrize("coding", [WAV_PCM, WAV_MULAW])
@pytest.mark.parametrize("data_bytes", [0, 1, 100])
def test_the_tag_stands_behind_the_audio(coding, data_bytes):
    tag = wav_tag(data_bytes)
    header = wav_header(8000, data_bytes, coding, behind_bytes=len(tag))
    file = header + bytes(data_bytes) + tag
    assert len(header) == (44 if coding is WAV_PCM else 58)
    assert int.from_bytes(file[4:8], "little") == len(file) - 8
    assert find_tag(tag) == f"tts-provider {__version__}"
    assert find_tag(header) is None
    # RIFF aligns its chunks to two bytes.
    at = len(header) + data_bytes + data_bytes % 2
    assert file[at : at + 4] == b"LIST"
    assert at + 8 + int.from_bytes(file[at + 4 : at + 8], "little") == len(file)


def test_where_the_audio_begins():
    assert len(wav_header(8000)) == 44
    for header in (wav_header(8000), wav_header(24_000, 2**31)):
        assert wav_data_at(header) == wav_data_at(header + b"data") == len(header)
    plain = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + bytes(16) + b"data\xff\xff\xff\xff"
    assert wav_data_at(plain) == 44
    odd = plain[:12] + b"note\x01\0\0\0a\0" + plain[12:]
    assert wav_data_at(odd) == 54
    for size_bytes in range(44):
        assert wav_data_at(plain[:size_bytes]) is None


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("piece", [1, 7, 480, 24_000])
def test_resampling_in_pieces_has_no_seam_and_no_drift(rate, piece):
    tone = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32)[: 100 * piece]
    resampler = Resampler(24_000, rate)
    whole = np.concatenate([resampler.push(tone), resampler.finish()])
    stream = Resampler(24_000, rate)
    pieces = [stream.push(tone[start : start + piece]) for start in range(0, len(tone), piece)]
    pieces.append(stream.finish())
    joined = np.concatenate(pieces)
    assert abs(len(joined) - len(tone) * rate / 24_000) <= 1
    assert np.abs(joined - whole).max() < 1e-4
