from __future__ import annotations

import numpy as np
import pytest

import ears
from tts_provider.audio.chain import Chain
from tts_provider.audio.tempo import Tempo

WORDS = ["seven", "nine", "eight", "five"]
NOTHING = np.zeros(0, np.float32)


def change(samples: np.ndarray, speed: float, cut: int = 1920) -> np.ndarray:
    tempo = Tempo(24_000, speed)
    pieces = [tempo.push(samples[start : start + cut]) for start in range(0, len(samples), cut)]
    return np.concatenate([*pieces, tempo.finish()])


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.8, 1.25, 2.0, 3.0, 4.0])
def test_the_duration_changes_and_the_pitch_does_not(speed, speech):
    changed = change(speech, speed)
    assert changed.dtype == np.float32
    assert len(changed) * speed == pytest.approx(len(speech), rel=0.03)
    pitch_hz = ears.median_pitch_hz(speech)
    assert ears.median_pitch_hz(changed) == pytest.approx(pitch_hz, rel=0.05)


@pytest.mark.parametrize("speed", [0.75, 1.5])
def test_the_words_are_still_understood(speed, speech):
    assert ears.hear_digits(change(speech, speed)) == WORDS


def test_speed_one_changes_nothing(speech):
    assert np.array_equal(change(speech, 1.0), speech)


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.3, 4.0])
@pytest.mark.parametrize("cut", [7, 480, 10**6])
def test_how_the_samples_were_cut_does_not_matter(speed, cut, speech):
    assert np.array_equal(change(speech, speed, cut), change(speech, speed))


def test_samples_come_while_they_are_made(speech):
    tempo = Tempo(24_000, 1.5)
    assert len(tempo.push(speech[:12_000])) > 4000


@pytest.mark.parametrize("count", [0, 1, 100])
def test_almost_nothing_is_at_most_that(count):
    assert len(change(np.zeros(count, np.float32), 2.0)) <= count


@pytest.mark.parametrize("speed", [1, 1.5])
async def test_beside_the_event_loop_it_is_the_same(speed, speech):
    beside = Chain([Tempo(24_000, speed)])
    made = [await beside.push(speech), await beside.finish(NOTHING)]
    assert np.array_equal(np.concatenate(made), change(speech, speed, cut=len(speech)))
