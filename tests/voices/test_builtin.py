"""Who becomes speaker 0 and speaker 1, by real voices of known pitch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soxr

from recordings import speech, wav
from tts_provider.audio.analyze import median_pitch_hz
from tts_provider.errors import StartupError
from tts_provider.voices.builtin import TRANSCRIPTS, Candidate, choose_prompts, read_prompts

NAMES = tuple(TRANSCRIPTS)
# The embedded man speaks at 102 Hz, the woman at 196 Hz.
PITCHES = {
    "deep man": ("male", 0.85, 87),
    "man": ("male", 1.0, 102),
    "high man": ("male", 1.3, 133),
    "low woman": ("female", 0.93, 182),
    "woman": ("female", 1.0, 196),
    "girl": ("female", 1.3, 255),
    "between": ("female", 0.84, 165),
}


def say(who: str, seconds: float = 9) -> np.ndarray:
    voice, factor, _ = PITCHES[who]
    return soxr.resample(speech(voice), 24_000 * factor, 24_000)[: int(24_000 * seconds)]


def candidate(who: str, seconds: float = 6) -> Candidate:
    samples = say(who, seconds)
    return Candidate(who, "words", samples, median_pitch_hz(samples))


@pytest.mark.parametrize("who", PITCHES)
def test_the_pitches_are_as_known(who):
    assert candidate(who).pitch_hz == pytest.approx(PITCHES[who][2], rel=0.04)


@pytest.mark.parametrize(
    ("man", "woman"),
    list(itertools.product(["deep man", "man", "high man"], ["low woman", "woman", "girl"])),
)
def test_a_man_and_a_woman_in_either_order(man, woman):
    for order in ((man, woman), (woman, man)):
        chosen = choose_prompts([candidate(who) for who in order])
        assert chosen.male is not None
        assert chosen.female is not None
        assert (chosen.male.name, chosen.female.name) == (man, woman)
        assert chosen.warnings == []


def test_shorter_prompts_first():
    chosen = choose_prompts([candidate("man", 7), candidate("high man", 5), candidate("woman")])
    assert chosen.male is not None
    assert chosen.male.name == "high man"


def test_nobody_is_clear():
    chosen = choose_prompts([candidate("between", 4), candidate("woman"), candidate("girl", 7)])
    assert chosen.male is not None
    assert chosen.female is not None
    assert (chosen.male.name, chosen.female.name) == ("between", "woman")
    (warning,) = chosen.warnings
    assert warning.startswith("No voice prompt is clearly low for speaker 0, so it is between, at ")
    alone = choose_prompts([candidate("man")])
    assert (alone.male is not None, alone.female) == (True, None)
    assert "clearly high for speaker 1, and there is nobody else" in alone.warnings[0]
    assert choose_prompts([]).warnings == [
        "No voice prompt is set, so the voice may differ between utterances."
    ]


def test_the_operators_choice():
    both = [candidate("man"), candidate("woman"), candidate("girl")]
    chosen = choose_prompts(both, ("girl", "man"))
    assert (chosen.male, chosen.female) == (both[2], both[0])
    with pytest.raises(
        StartupError, match="no voice prompt 'nobody' in the model's folder; it has man"
    ):
        choose_prompts(both, ("man", "nobody"))


def test_reading_a_snapshot(tmp_path):
    assert read_prompts(tmp_path) == ([], [])
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, who in zip(NAMES, ["man", "woman", "girl"], strict=False):
        (folder / f"{name}.wav").write_bytes(wav(say(who, 4)))
    (folder / f"{NAMES[3]}.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (folder / "another.wav").write_bytes(wav(say("man", 4)))
    candidates, warnings = read_prompts(tmp_path)
    assert [c.name for c in candidates] == list(NAMES[:3])
    assert [c.duration_ms for c in candidates] == [4000] * 3
    assert candidates[0].transcript == TRANSCRIPTS[NAMES[0]]
    (warning,) = warnings
    assert f"{NAMES[3]}.wav cannot be read: " in warning
    chosen = choose_prompts(candidates)
    assert (chosen.male, chosen.female) == (candidates[0], candidates[1])
