"""Which recordings become voices, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest

from recordings import TEXT, encode, speech, wav
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.errors import InvalidRequest
from tts_provider.voices.enrolment import check_name, check_transcript, gender_of, make_prompt


def refused(samples: np.ndarray, transcript: str | None = TEXT) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        make_prompt(samples, transcript)
    assert caught.value.message
    return caught.value


def noisy(snr_db: float) -> np.ndarray:
    level = 10 ** (-(19.7 + snr_db) / 20)
    return speech() + np.random.default_rng(1).normal(0, level, len(speech()))


@pytest.mark.parametrize(("voice", "gender"), [("male", "male"), ("female", "female")])
def test_a_good_recording(voice, gender):
    half = np.zeros(12_000, np.float32)
    sent = encode(np.concatenate([half, speech(voice), half]), "mp3", rate=44_100)
    prompt = make_prompt(decode_audio(sent), TEXT)
    assert prompt.warnings == []
    assert prompt.gender == gender
    assert prompt.duration_ms == pytest.approx(len(speech(voice)) / 24, abs=300)
    assert np.sqrt(np.mean(prompt.samples**2)) == pytest.approx(10 ** (-23 / 20), rel=0.2)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (speech()[: 24_000 * 5], "s of speech; 8 to 20 s work best"),
        (np.tile(speech(), 3), "s of speech; 8 to 20 s work best"),
        (np.clip(4 * speech(), -1, 1), "clipped, "),
        (noisy(10), "dB below the speech"),
        (0.01 * speech(), "very quiet, -59 dBFS"),
    ],
    ids=["short", "long", "clipped", "noisy", "quiet"],
)
def test_warnings(samples, words):
    prompt = make_prompt(decode_audio(wav(samples, "<f4")), None)
    assert words in " ".join(prompt.warnings)
    assert len(prompt.warnings) == 1
    for warning in prompt.warnings:
        assert warning[0].isupper()
        assert warning.endswith(".")


def test_what_cannot_become_a_voice():
    short = refused(speech()[: 24_000 * 2])
    assert short.code == "audio_too_short"
    assert "at least 3 s of speech; this audio has 2.0 s" in short.message
    assert refused(np.zeros(24_000 * 9, np.float32)).code == "no_voice_in_audio"
    hiss = np.random.default_rng(0).normal(0, 0.1, 24_000 * 9)
    assert refused(np.clip(hiss, -1, 1).astype(np.float32)).code == "no_voice_in_audio"


def test_transcripts_must_fit_the_audio():
    for transcript in ("Hello.", TEXT * 3):
        problem = refused(speech(), transcript)
        assert problem.code == "transcript_mismatch"
        assert f"{len(transcript)} characters in 9.6 s of speech" in problem.message
    warnings = make_prompt(speech(), TEXT[: len(TEXT) // 3]).warnings
    assert ["word for word" in warning for warning in warnings] == [True]


@pytest.mark.parametrize("name", ["Anna", "  Anna ", "安娜", "Ünï 😀", "../../etc", "x" * 100])
def test_names(name):
    assert check_name(name) == name.strip()


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 101, "a\0b", "a\nb", "a\x1b[31m", "a\ud800", "a\u2028b"]
)
def test_names_that_are_none(name):
    with pytest.raises(InvalidRequest) as caught:
        check_name(name)
    assert caught.value.param == "name"


def test_transcripts():
    assert check_transcript(" One\r\n two\tthree ") == "One two three"
    for transcript in ("", " \n", "...", "a\0b", "x" * 4001):
        with pytest.raises(InvalidRequest) as caught:
            check_transcript(transcript)
        assert caught.value.param == "transcript"


def test_gender_by_pitch():
    pitches = {None: "unknown", 85: "male", 154: "male", 160: "unknown", 176: "female"}
    assert {pitch: gender_of(pitch) for pitch in pitches} == pitches


@pytest.mark.parametrize("offset", [0.05, -0.2])
def test_a_recording_with_an_offset_is_enrolled_as_without(offset):
    half = np.zeros(12_000, np.float32)
    samples = np.concatenate([half, speech("male") * 0.5, half])
    plain, moved = make_prompt(samples, TEXT), make_prompt(samples + np.float32(offset), TEXT)
    assert moved.warnings == plain.warnings == []
    assert moved.duration_ms == plain.duration_ms
    assert moved.measured.pitch_hz == pytest.approx(plain.measured.pitch_hz, rel=1e-3)
    assert np.allclose(moved.samples, plain.samples, atol=1e-4)
