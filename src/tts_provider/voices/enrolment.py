"""Turns an upload into a voice prompt: what is refused, what is warned about, what is kept."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from tts_provider.audio.analyze import (
    Measured,
    measure,
    normalize_level,
    remove_offset,
    trim_silence,
)
from tts_provider.audio.decode.decode import DECODED_RATE
from tts_provider.audio.pcm import Samples
from tts_provider.errors import InvalidRequest

MAX_NAME_CHARACTERS = 100
# As much as fits into the longest recording at the fastest rate, and some more.
MAX_TRANSCRIPT_CHARACTERS = 4000

MIN_SPEECH_S = 3.0
_GOOD_S = (8.0, 20.0)
_MIN_VOICED_MS = 500

# English is read at 12 to 16 characters a second, Chinese at 4 to 6; nobody exceeds 30.
_POSSIBLE_RATE = (4.0, 30.0)
_USUAL_RATE = (7.0, 22.0)

_CLIPPED_SHARE = 0.001
_LEAST_SNR_DB = 20.0
_LEAST_DBFS = -45.0

BETWEEN_VOICES_HZ = 165.0
"""Men speak at 85 to 155 Hz, women at 165 to 255: csm.md parts them here."""
UNSURE_HZ = 10.0

Gender = Literal["male", "female", "unknown"]


@dataclass(frozen=True)
class PreparedRecording:
    """A recording, prepared for a voice."""

    samples: Samples
    """(n,), 24 kHz, without silence around it, at -23 dBFS."""
    measured: Measured
    """As it came."""
    warnings: list[str]

    @property
    def duration_ms(self) -> int:
        return len(self.samples) * 1000 // DECODED_RATE

    @property
    def gender(self) -> Gender:
        return gender_of(self.measured.pitch_hz)


def make_prompt(samples: Samples, transcript: str | None) -> PreparedRecording:
    """Check a recording, (n,) at 24 kHz. Without a `transcript`, only the audio is checked.

    Raises `InvalidRequest` if it cannot be a voice.
    """
    samples = remove_offset(samples)
    measured = measure(samples)
    if measured.voiced_ms < _MIN_VOICED_MS:
        raise InvalidRequest(
            "no voice can be heard in the audio", code="no_voice_in_audio", param="audio"
        )
    speech_s = measured.speech_ms / 1000
    if speech_s < MIN_SPEECH_S:
        raise InvalidRequest(
            f"a voice needs at least {MIN_SPEECH_S:g} s of speech; this audio has {speech_s:.1f} s",
            code="audio_too_short",
            param="audio",
        )
    warnings = _hear(measured)
    if transcript is not None:
        warnings += _compare(transcript, speech_s)
    return PreparedRecording(normalize_level(trim_silence(samples)), measured, warnings)


def gender_of(pitch_hz: float | None) -> Gender:
    """The gender by pitch alone; unknown near the border."""
    if pitch_hz is None or abs(pitch_hz - BETWEEN_VOICES_HZ) < UNSURE_HZ:
        return "unknown"
    return "male" if pitch_hz < BETWEEN_VOICES_HZ else "female"


def check_name(name: str) -> str:
    """The name without white space around it. Raises `InvalidRequest`."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidRequest(
            f"name must have 1 to {MAX_NAME_CHARACTERS} characters; this has {len(name)}",
            param="name",
        )
    _check_characters(name, "name")
    return name


def check_transcript(transcript: str) -> str:
    """The transcript on one line. Raises `InvalidRequest`."""
    if len(transcript) > MAX_TRANSCRIPT_CHARACTERS:
        raise InvalidRequest(
            f"transcript may have {MAX_TRANSCRIPT_CHARACTERS} characters; "
            f"this has {len(transcript)}",
            param="transcript",
        )
    transcript = re.sub(r"\s+", " ", transcript).strip()
    if not any(character.isalnum() for character in transcript):
        raise InvalidRequest(
            "transcript must be the words that are said in the audio; it is empty",
            param="transcript",
        )
    _check_characters(transcript, "transcript")
    return transcript


def _check_characters(text: str, param: str) -> None:
    for character in text:
        # Control characters, lone surrogates, line and paragraph separators.
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise InvalidRequest(
                f"{param} has a character that is not text: U+{ord(character):04X}", param=param
            )


def _hear(measured: Measured) -> list[str]:
    warnings = []
    speech_s = measured.speech_ms / 1000
    shortest, longest = _GOOD_S
    if not shortest <= speech_s <= longest:
        warnings.append(
            f"The audio has {speech_s:.1f} s of speech; {shortest:g} to {longest:g} s work best."
        )
    if measured.clipped_share > _CLIPPED_SHARE:
        warnings.append(
            f"The audio is clipped, {measured.clipped_share:.1%} of it; record it less loud."
        )
    if measured.snr_db < _LEAST_SNR_DB:
        warnings.append(
            f"The noise is only {max(0.0, measured.snr_db):.0f} dB below the speech; "
            "record it in a quieter place."
        )
    if measured.speech_dbfs < _LEAST_DBFS:
        warnings.append(
            f"The audio is very quiet, {measured.speech_dbfs:.0f} dBFS; record it louder."
        )
    return warnings


def _compare(transcript: str, speech_s: float) -> list[str]:
    rate = len(transcript) / speech_s
    said = f"{len(transcript)} characters in {speech_s:.1f} s of speech, {rate:.1f} a second"
    lowest, highest = _POSSIBLE_RATE
    if not lowest <= rate <= highest:
        raise InvalidRequest(
            f"the transcript cannot be what the audio says: {said}; "
            f"speech has {lowest:g} to {highest:g}",
            code="transcript_mismatch",
            param="transcript",
        )
    lowest, highest = _USUAL_RATE
    if not lowest <= rate <= highest:
        return [f"The transcript may not be what the audio says, word for word: {said}."]
    return []
