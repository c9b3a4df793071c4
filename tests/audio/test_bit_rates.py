"""Whatever bit rate an encoder is said to make it makes, and what it cannot is told before."""

from __future__ import annotations

import numpy as np
import pytest

import decoders
from tts_provider.audio.encode.compress import OPUS_RATES, bit_rates
from tts_provider.audio.encode.encode import check_format, create_encoder
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.errors import InvalidRequest

CASES = [
    (name, rate)
    for name in ("mp3", "opus", "aac")
    for rate in (OPUS_RATES if name == "opus" else SAMPLE_RATES)
]
NOISE = (0.3 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)


@pytest.mark.parametrize(("name", "rate"), CASES)
def test_the_least_and_the_most_make_a_file(name, rate):
    least, most = bit_rates(name, rate)
    for bits in (least, (least + most) // 2, most):
        encoder = create_encoder(name, 24_000, rate, bits_per_second=bits)
        data = encoder.start() + encoder.push(NOISE) + encoder.finish()
        samples, _, _ = decoders.decode(data, name, rate)
        assert len(samples) >= rate * 0.95


@pytest.mark.parametrize(("name", "rate"), CASES)
def test_what_is_beyond_is_told(name, rate):
    least, most = bit_rates(name, rate)
    for bits in (least - 1, most + 1, 0):
        with pytest.raises(InvalidRequest, match=f"from {least} to {most} for {name}") as caught:
            create_encoder(name, 24_000, rate, bits_per_second=bits)
        assert caught.value.param == "bit_rate"


def test_where_bits_cannot_be_chosen_none_is_wrong():
    for name in ("pcm", "wav", "flac", "mulaw"):
        check_format(name, 24_000, 1)
