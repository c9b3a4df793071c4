from __future__ import annotations

import pytest

from tts_provider.audio.watermark.network import Decoder, Encoder
from tts_provider.audio.watermark.weights import read_weights


@pytest.fixture(scope="session")
def weights():
    return read_weights()


@pytest.fixture(scope="session")
def encoder(weights):
    return Encoder(weights)


@pytest.fixture(scope="session")
def decoder(weights):
    return Decoder(weights)
