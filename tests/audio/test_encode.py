from __future__ import annotations

import numpy as np
import pytest

import ears
from tts_provider.audio.encode import AVAILABLE_FORMATS, FORMATS, create_encoder
from tts_provider.errors import InvalidRequest


def encode(audio_format: str, rate: int, samples: np.ndarray, pieces: int) -> bytes:
    encoder = create_encoder(audio_format, 24_000, rate)
    body = b"".join(encoder.push(piece) for piece in np.array_split(samples, pieces))
    return encoder.start() + body + encoder.finish()


@pytest.mark.parametrize("rate", [8000, 24_000, 48_000])
def test_the_pieces_join_to_one_valid_file(rate):
    tone = np.sin(2 * np.pi * 220 * np.arange(24_000) / 24_000).astype(np.float32) / 2
    wav = encode("wav", rate, tone, 9)
    assert wav[44:] == encode("pcm", rate, tone, 5)
    samples, read_rate = ears.read_wav(wav)
    assert read_rate == rate
    assert abs(len(samples) - rate) <= 1
    assert ears.median_pitch_hz(samples, rate) == pytest.approx(220, rel=0.03)


@pytest.mark.parametrize("audio_format", sorted(set(FORMATS) - set(AVAILABLE_FORMATS)))
def test_formats_to_come_say_so(audio_format):
    with pytest.raises(InvalidRequest, match="not available yet") as caught:
        create_encoder(audio_format, 24_000, 24_000)
    assert caught.value.code == "format_not_available"
