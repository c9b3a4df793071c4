"""The voice prompts that come with CSM-1B, and which of them are speaker 0 and speaker 1.

No file says which are men and which are women, so the pitch is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tts_provider.audio.analyze import median_pitch_hz
from tts_provider.audio.decode.decode import DECODED_RATE, decode_audio
from tts_provider.audio.pcm import Samples
from tts_provider.errors import StartupError, WireError
from tts_provider.voices.enrolment import gender_of

# https://huggingface.co/spaces/sesame/csm-1b: what is said in prompts/<name>.wav.
TRANSCRIPTS = {
    "read_speech_a": (
        "And Lake turned round upon me, a little abruptly, his odd yellowish eyes, a little like "
        "those of the sea eagle, and the ghost of his smile that flickered on his singularly pale "
        "face, with a stern and insidious look, confronted me."
    ),
    "read_speech_b": (
        "He was such a big boy that he wore high boots and carried a jack knife. He gazed and "
        "gazed at the cap, and could not keep from fingering the blue tassel."
    ),
    "read_speech_c": (
        "All passed so quickly, there was so much going on around him, the Tree quite forgot to "
        "look to himself."
    ),
    "read_speech_d": (
        "Suddenly I was back in the old days Before you felt we ought to drift apart. It was some "
        "trick-the way your eyebrows raise."
    ),
    "conversational_a": (
        "like revising for an exam I'd have to try and like keep up the momentum because I'd "
        "start really early I'd be like okay I'm gonna start revising now and then like you're "
        "revising for ages and then I just like start losing steam I didn't do that for the exam "
        "we had recently to be fair that was a more of a last minute scenario but like yeah I'm "
        "trying to like yeah I noticed this yesterday that like Mondays I sort of start the day "
        "with this not like a panic but like a"
    ),
    "conversational_b": (
        "like a super Mario level. Like it's very like high detail. And like, once you get into "
        "the park, it just like, everything looks like a computer game and they have all these, "
        "like, you know, if, if there's like a, you know, like in a Mario game, they will have "
        "like a question block. And if you like, you know, punch it, a coin will come out. So "
        "like everyone, when they come into the park, they get like this little bracelet and then "
        "you can go punching question blocks around."
    ),
}

_MAX_BYTES = 10 * 1024 * 1024
_MAX_AUDIO_S = 60.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recording that could be a built-in voice."""

    name: str
    transcript: str
    samples: Samples  # (n,), 24 kHz
    pitch_hz: float | None

    @property
    def duration_ms(self) -> int:
        return len(self.samples) * 1000 // DECODED_RATE


@dataclass(frozen=True)
class Chosen:
    """Speaker 0 and speaker 1; None if the snapshot has no voice for one."""

    male: Candidate | None
    female: Candidate | None
    warnings: list[str]


def read_prompts(snapshot: Path) -> tuple[list[Candidate], list[str]]:
    """The recordings that exist and can be read, and a warning for each that cannot."""
    candidates, warnings = [], []
    for name, transcript in TRANSCRIPTS.items():
        path = snapshot / "prompts" / f"{name}.wav"
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            samples = decode_audio(data, max_bytes=_MAX_BYTES, max_audio_s=_MAX_AUDIO_S)
        except FileNotFoundError:
            continue
        except (OSError, WireError) as error:
            warnings.append(f"The voice prompt {path} cannot be read: {error}.")
            continue
        candidates.append(Candidate(name, transcript, samples, median_pitch_hz(samples)))
    return candidates, warnings


def choose_prompts(candidates: Sequence[Candidate], names: Sequence[str] = ()) -> Chosen:
    """Choose speaker 0, the shortest of the clearly low voices, and speaker 1, of the clearly high
    ones.

    If no voice is clear, the lowest or highest of the others is used, with a warning. `names`, two
    that the operator chose, are used as they are. Raises `StartupError` if one of them does not
    exist.
    """
    if names:
        return Chosen(_named(candidates, names[0]), _named(candidates, names[1]), [])
    if not candidates:
        return Chosen(
            None, None, ["No voice prompt is set, so the voice may differ between utterances."]
        )
    male = _shortest([c for c in candidates if gender_of(c.pitch_hz) == "male"])
    female = _shortest([c for c in candidates if gender_of(c.pitch_hz) == "female"])
    warnings: list[str] = []
    rest = sorted(
        (c for c in candidates if c not in (male, female) and c.pitch_hz is not None),
        key=lambda c: c.pitch_hz or 0.0,
    )
    if male is None:
        male = rest.pop(0) if rest else None
        warnings.append(_unclear("low", 0, male))
    if female is None:
        female = rest.pop() if rest else None
        warnings.append(_unclear("high", 1, female))
    return Chosen(male, female, warnings)


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    for candidate in candidates:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in candidates) or "none"
    raise StartupError(f"there is no voice prompt {name!r} in the model's folder; it has {known}")


def _shortest(candidates: Sequence[Candidate]) -> Candidate | None:
    return min(candidates, key=lambda candidate: len(candidate.samples), default=None)


def _unclear(kind: str, speaker: int, taken: Candidate | None) -> str:
    instead = "and there is nobody else"
    if taken is not None:
        instead = f"so it is {taken.name}, at {taken.pitch_hz:.0f} Hz"
    return f"No voice prompt is clearly {kind} for speaker {speaker}, {instead}."
