from __future__ import annotations

import numpy as np
import pytest

import decoders
from tts_provider.audio.encode.g711 import to_alaw, to_mulaw

EVERY_SAMPLE = np.arange(-32767, 32768, dtype=np.float32) / 32767


@pytest.mark.parametrize(("law", "encode"), [("mulaw", to_mulaw), ("alaw", to_alaw)])
def test_every_sample_becomes_the_nearest_code(law, encode):
    every_code, _, _ = decoders.decode(bytes(range(256)), law, 8000)
    levels = np.unique(every_code)
    decoded, _, _ = decoders.decode(encode(EVERY_SAMPLE), law, 8000)
    sample = np.round(EVERY_SAMPLE * 32767) / 32768
    nearest = np.minimum(np.searchsorted(levels, sample), len(levels) - 1)
    below = np.maximum(nearest - 1, 0)
    best = np.minimum(np.abs(levels[nearest] - sample), np.abs(levels[below] - sample))
    assert np.abs(np.abs(decoded - sample) - best).max() < 1e-6


def test_silence_is_what_telephones_send():
    silence = np.zeros(3, np.float32)
    assert to_mulaw(silence) == b"\xff" * 3
    assert to_alaw(silence) == b"\xd5" * 3
