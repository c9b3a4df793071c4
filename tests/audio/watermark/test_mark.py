from __future__ import annotations

import numpy as np
import pytest

import ears
from recordings import speech
from tts_provider.audio.watermark.mark import LEAD, Marker

SAMPLES = speech()


def mark(encoder, samples: np.ndarray, cut: int = 10**9, lead: int = 0) -> np.ndarray:
    marker = Marker(encoder, lead)
    pieces = [marker.push(samples[at : at + cut]) for at in range(0, len(samples), cut)]
    return np.concatenate([*pieces, marker.finish()])


@pytest.mark.parametrize("cut", [7 * 1920, 1234, 1919])
def test_how_the_samples_were_cut_does_not_matter(cut, encoder):
    assert np.array_equal(mark(encoder, SAMPLES, cut, LEAD), mark(encoder, SAMPLES, lead=LEAD))


@pytest.mark.parametrize("count", [0, 1, 240, 1919, 1920, 1921, 3216, 10_000])
def test_it_is_as_long_as_before(count, encoder):
    assert len(mark(encoder, SAMPLES[:count])) == count
    assert len(mark(encoder, SAMPLES[:count], lead=LEAD)) == count


def test_the_lead_leaves_at_once_and_as_it_was(encoder):
    marker = Marker(encoder, LEAD)
    assert np.array_equal(marker.push(SAMPLES[:LEAD]), SAMPLES[:LEAD])
    assert len(marker.push(SAMPLES[LEAD : LEAD + 100])) == 0


def test_no_more_than_134_ms_are_held(encoder):
    marker, pushed, came = Marker(encoder), 0, 0
    for at in range(0, 24_000, 480):
        came += len(marker.push(SAMPLES[at : at + 480]))
        pushed += 480
        assert pushed - came <= 134 * 24


def test_silence_stays_silence(encoder):
    silence = np.zeros(24_000, np.float32)
    assert not mark(encoder, silence).any()


def test_it_is_quiet_and_has_no_click(encoder):
    """The mark itself: 12 dB below the speech or more, nowhere above 2 kHz, and it begins from
    nothing."""
    marked = mark(encoder, SAMPLES, lead=LEAD)
    added = marked - SAMPLES
    assert np.square(added).sum() < np.square(SAMPLES).sum() * 10**-1.2
    assert not added[:LEAD].any()
    assert np.abs(np.diff(added, prepend=0)).max() < np.abs(np.diff(SAMPLES)).max() / 2
    power = np.square(np.abs(np.fft.rfft(added)))
    above = int(len(power) * 2200 / 12_000)
    assert power[above:].sum() < 1e-4 * power.sum()


def test_the_words_are_still_understood(encoder):
    words = ["seven", "nine", "eight", "five"]
    assert ears.hear_digits(mark(encoder, speech(text="seven nine eight five."))) == words
