from __future__ import annotations

import numpy as np
import pytest
import soxr

from recordings import speech
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.encode.encode import create_encoder
from tts_provider.audio.watermark.detect import THRESHOLD, detect
from tts_provider.audio.watermark.mark import LEAD, Marker

RATE = 24_000
SAMPLES = speech()
SECONDS = np.arange(2 * RATE) / RATE


@pytest.fixture(scope="module")
def marked(encoder):
    marker = Marker(encoder, LEAD)
    return np.concatenate([marker.push(SAMPLES), marker.finish()])


def sent(samples: np.ndarray, audio_format: str, rate: int, **options: int) -> np.ndarray:
    encoder = create_encoder(audio_format, RATE, rate, **options)
    data = encoder.start() + encoder.push(samples) + encoder.finish()
    encoder.close()
    return decode_audio(data)


CHANGES = {
    "nothing": lambda samples: samples,
    "MP3 at 32 kbit/s": lambda samples: sent(samples, "mp3", RATE, bits_per_second=32_000),
    "AAC": lambda samples: sent(samples, "aac", RATE),
    "Opus at 16 kbit/s": lambda samples: sent(samples, "opus", RATE, bits_per_second=16_000),
    "telephone": lambda samples: sent(samples, "wav-mulaw", 8000),
    "two seconds": lambda samples: samples[2 * RATE : 4 * RATE],
    "5 % faster": lambda samples: soxr.resample(samples, RATE, RATE / 1.05),
    "5 % slower": lambda samples: soxr.resample(samples, RATE, RATE / 0.95),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_mark_survives_and_is_seen_in_nothing_else(change, marked, decoder):
    whole = (marked[: 5 * RATE], SAMPLES[: 5 * RATE])
    found, other = (detect(decoder, CHANGES[change](each)) for each in whole)
    assert found.is_marked
    assert found.score >= THRESHOLD
    assert not other.is_marked
    assert other.score < THRESHOLD


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(2 * RATE),
        np.zeros(1),
        np.random.default_rng(0).normal(0, 0.1, 2 * RATE),
        *(0.3 * np.sin(2 * np.pi * hz * SECONDS) for hz in (100, 220, 440, 1000)),
        0.1 * sum(np.sin(2 * np.pi * hz * SECONDS) for hz in (220, 277, 330, 440)),
        0.2 * np.sign(np.sin(2 * np.pi * 130 * SECONDS)),
    ],
    ids=["silence", "one", "noise", "100 Hz", "220 Hz", "440 Hz", "1 kHz", "chord", "square"],
)
def test_what_is_no_speech_has_no_mark(sound, decoder):
    assert not detect(decoder, sound.astype(np.float32)).is_marked


def test_it_says_where(marked, decoder):
    spliced = np.concatenate([SAMPLES, marked, SAMPLES])
    (found,) = detect(decoder, spliced).stretches
    assert found.start == pytest.approx(len(SAMPLES), abs=1.5 * RATE)
    assert found.end == pytest.approx(2 * len(SAMPLES), abs=1.5 * RATE)


def test_what_is_longer_than_a_minute_is_looked_at_in_parts(marked, decoder):
    silence = np.zeros(62 * RATE, np.float32)
    (found,) = detect(decoder, np.concatenate([silence, marked])).stretches
    assert found.start == pytest.approx(62 * RATE, abs=1.5 * RATE)
    assert found.end == pytest.approx(62 * RATE + len(marked), abs=0.1 * RATE)
