"""Measurements of real speech, and of speech made worse on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

import ears
from recordings import speech
from tts_provider.audio.analyze import (
    TARGET_DBFS,
    measure,
    measure_level_dbfs,
    median_pitch_hz,
    normalize_level,
    trim_silence,
)
from tts_provider.audio.tempo import Tempo

VOICES = ("male", "female")


def noise(samples: int, dbfs: float) -> np.ndarray:
    level = 10 ** (dbfs / 20)
    return np.random.default_rng(6).normal(0, level, samples).astype(np.float32)


def pulses(pitch_hz: float, seconds: float = 2.0) -> np.ndarray:
    """A buzz of exactly that pitch: what a larynx gives, before the mouth."""
    time_s = np.arange(int(24_000 * seconds)) / 24_000
    harmonics = np.arange(1, int(4000 / pitch_hz))
    waves = np.sin(2 * np.pi * pitch_hz * np.outer(harmonics, time_s)) / harmonics[:, np.newaxis]
    return (0.2 * waves.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [70, 85, 110, 155, 165, 180, 220, 255, 330, 450])
def test_a_known_pitch(pitch_hz):
    assert median_pitch_hz(pulses(pitch_hz)) == pytest.approx(pitch_hz, rel=0.01)


@pytest.mark.parametrize("voice", VOICES)
def test_it_agrees_with_the_other_way_to_measure(voice):
    heard = median_pitch_hz(speech(voice))
    assert heard == pytest.approx(ears.median_pitch_hz(speech(voice)), rel=0.02)


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("factor", [0.7, 0.85, 1.2, 1.4])
def test_a_higher_voice(voice, factor):
    """Played faster, the same person is that much higher."""
    higher = soxr.resample(speech(voice), 24_000 * factor, 24_000)
    assert median_pitch_hz(higher) == pytest.approx(
        factor * median_pitch_hz(speech(voice)), rel=0.01
    )


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("speed", [0.6, 1.5, 2.0])
def test_talking_faster_changes_no_pitch(voice, speed):
    tempo = Tempo(24_000, speed)
    faster = np.concatenate([tempo.push(speech(voice)), tempo.finish()])
    assert len(faster) == pytest.approx(len(speech(voice)) / speed, rel=0.05)
    assert median_pitch_hz(faster) == pytest.approx(median_pitch_hz(speech(voice)), rel=0.03)


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("snr_db", [30, 20, 10])
def test_noise(voice, snr_db):
    clean = measure(speech(voice))
    noisy = measure(speech(voice) + noise(len(speech(voice)), clean.speech_dbfs - snr_db))
    assert noisy.snr_db == pytest.approx(snr_db, abs=3)
    assert noisy.pitch_hz == pytest.approx(clean.pitch_hz, rel=0.01)
    assert noisy.speech_ms == pytest.approx(clean.speech_ms, rel=0.1)


def test_clipping():
    shares = [measure(np.clip(gain * speech(), -1, 1)).clipped_share for gain in (1, 2, 4)]
    assert shares[0] < 0.0001 < 0.001 < shares[1] < 0.01 < shares[2] < 0.1


def test_silence_around_speech_is_trimmed():
    half = np.zeros(12_000, np.float32)
    recorded = np.concatenate([half, speech(), half, half]) + noise(len(speech()) + 36_000, -65)
    trimmed = trim_silence(recorded)
    assert len(speech()) - 12_000 < len(trimmed) < len(speech()) + 6000
    assert median_pitch_hz(trimmed) == pytest.approx(median_pitch_hz(speech()), rel=0.01)
    click = np.zeros(24_000, np.float32)
    click[12_000] = 1.0
    assert not len(trim_silence(click))


@pytest.mark.parametrize("gain", [0.02, 0.1, 1.0])
def test_levels_become_the_same(gain):
    normalized = normalize_level(np.float32(gain) * speech())
    assert measure_level_dbfs(normalized) == pytest.approx(TARGET_DBFS, abs=0.5)
    assert np.abs(normalized).max() < 0.9


def test_peaks_are_never_clipped():
    peaky = 0.01 * speech()
    peaky[100_000] = 1.0
    assert np.abs(normalize_level(peaky)).max() == pytest.approx(0.89, abs=0.001)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(24_000, np.float32),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        np.full(48_000, 0.5, np.float32),
        noise(48_000, -20),
    ],
    ids=["silence", "a sample", "a click", "a constant", "noise"],
)
def test_what_is_no_voice_has_no_pitch(samples):
    measured = measure(samples)
    assert measured.pitch_hz is None
    assert measured.voiced_ms == 0
    assert np.isfinite(normalize_level(samples)).all()
