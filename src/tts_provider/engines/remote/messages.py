"""What a gateway asks a replica, and what a replica says of itself: JSON of a fixed shape."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tts_provider.engines.remote.frames import (
    SpokenMessage,
    one_line,
    read_spoken,
    spoken_facts,
)
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import (
    MOST_HEARD,
    History,
    Manner,
    Phonemes,
    Samples,
    Utterance,
    Voice,
)
from tts_provider.speech.lexicon import LONGEST_ENTRY

VERSION = 1
"""Of the contract: both sides must have the same."""
VOICE_HEADER = "serve_multiplexed_model_id"
"""Ray Serve's: requests with the same value go to the same replica, which has that voice ready."""
REPLICA_HEADER = "x-tts-replica"
"""Which replica answers."""

_MAX_TEXT_CHARACTERS = 20_000
"""Of one passage: its segment has 300, of which each may be several words."""
_MAX_NAME_CHARACTERS = 200
_MAX_VOICES = 4096
_MAX_STREAMS = 1_000_000
_MAX_SPEAKER = 2**31 - 1
_SAMPLE = np.dtype("<f4")


class Message(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    version: int = VERSION

    def encode(self) -> bytes:
        """As JSON. What is as it is by default is left out, so that a release which does not know
        a field yet takes all that uses nothing new."""
        facts = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"version": self.version, **facts}).encode()

    @field_validator("version")
    @classmethod
    def _is_ours(cls, version: int) -> int:
        if version != VERSION:
            raise ValueError(
                f"gateways and replicas must have the same release: the contract's version is "
                f"{VERSION} here and {version} there"
            )
        return version


class Pronounced(BaseModel):
    """Characters from `start` to before `end` are pronounced so, in IPA."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    start: int = Field(ge=0)
    end: int
    ipa: str = Field(max_length=LONGEST_ENTRY)

    def phonemes(self) -> Phonemes:
        return Phonemes(self.start, self.end, self.ipa)


class SpeakRequest(Message):
    """`POST /speak`: one passage, in words."""

    text: str = Field(max_length=_MAX_TEXT_CHARACTERS)
    voice: str
    temperature: float | None = Field(None, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0)
    max_audio_ms: int | None = Field(None, ge=1)
    speed: float = Field(1.0, gt=0, allow_inf_nan=False)
    history: list[SpokenMessage] = Field(default_factory=list, max_length=MOST_HEARD)
    """The last segments of the same timeline."""
    history_count: int = Field(0, ge=0)
    """How many there were, which is part of the seed."""
    with_words: bool = False
    """Whether somebody wants to know when each word is spoken."""
    ahead_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    """How far ahead of its listener the audio may be; None where nobody listens meanwhile."""
    known_samples: int = Field(0, ge=0)
    """Of the audio, which the listener has already: another replica said them. They leave at
    once."""
    phonemes: list[Pronounced] = Field(default_factory=list, max_length=_MAX_TEXT_CHARACTERS)
    """How parts of the text are pronounced, in order."""
    is_background: bool = False
    """Nobody is waiting for it."""

    @model_validator(mode="after")
    def _are_in_the_text(self) -> SpeakRequest:
        done = 0
        for part in self.phonemes:
            if not done <= part.start < part.end <= len(self.text):
                raise ValueError("phonemes must be of parts of the text, in order")
            done = part.end
        return self

    @classmethod
    def of(cls, utterance: Utterance, known_samples: int = 0) -> SpeakRequest:
        """Raises `InvalidRequest` where the contract has no room for it."""
        manner, history = utterance.manner, utterance.history
        return _made(
            cls,
            text=utterance.text,
            voice=utterance.voice.id,
            temperature=manner.temperature,
            top_k=manner.top_k,
            seed=manner.seed,
            max_audio_ms=manner.max_audio_ms,
            speed=manner.speed,
            with_words=manner.word_times,
            history=[spoken_facts(spoken) for spoken in history.segments[-history.heard :]],
            history_count=history.count,
            ahead_s=utterance.ahead_s,
            is_background=utterance.is_background,
            known_samples=known_samples,
            phonemes=[Pronounced(**asdict(part)) for part in utterance.phonemes],
        )

    def utterance(self, voice: Voice) -> Utterance:
        """Raises `InvalidRequest` where the history cannot be read."""
        try:
            segments = [read_spoken(segment) for segment in self.history]
        except ValueError as error:
            raise InvalidRequest(f"history cannot be read: {error}", param="history") from None
        return Utterance(
            text=self.text,
            voice=voice,
            history=History(segments, self.history_count, heard=MOST_HEARD),
            phonemes=tuple(part.phonemes() for part in self.phonemes),
            is_background=self.is_background,
            manner=Manner(
                temperature=self.temperature,
                top_k=self.top_k,
                seed=self.seed,
                max_audio_ms=self.max_audio_ms,
                speed=self.speed,
                word_times=self.with_words,
            ),
        )


class ListenRequest(Message):
    """`POST /listen`: what somebody else said."""

    text: str = Field(max_length=20 * _MAX_TEXT_CHARACTERS)
    speaker: int
    samples: str
    """float32, little endian, mono, 24 kHz, in base64."""

    @classmethod
    def of(cls, text: str, speaker: int, samples: Samples) -> ListenRequest:
        """Raises `InvalidRequest` where the contract has no room for it."""
        data = base64.b64encode(samples.astype(_SAMPLE, copy=False).tobytes()).decode()
        return _made(cls, text=text, speaker=speaker, samples=data)

    def audio(self) -> Samples:
        """(n,) at 24 kHz. Raises `InvalidRequest`."""
        try:
            data = np.frombuffer(base64.b64decode(self.samples, validate=True), _SAMPLE)
        except ValueError as error:
            raise InvalidRequest(f"samples cannot be read: {error}", param="samples") from None
        return data.astype(np.float32, copy=False)


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are allowed")
    return text


_Name = Annotated[
    str, Field(min_length=1, max_length=_MAX_NAME_CHARACTERS), AfterValidator(_check_printable)
]


class Description(Message):
    """`GET /describe`: what a replica speaks with. It is shown to clients and in the log.

    Facts that this release does not know are passed over: while releases change, gateways speak
    with newer replicas. In a request they are an error, because without them it would be another.
    """

    model_config = ConfigDict(extra="ignore")

    replica: _Name
    engine: _Name
    model: _Name
    device: _Name
    precision: _Name
    speeds: tuple[float, float]
    takes_prompts: bool
    takes_acts: bool = False
    voices: list[Voice] = Field(min_length=1, max_length=_MAX_VOICES)
    max_streams: int = Field(ge=1, le=_MAX_STREAMS)
    repeats: list[_Name] = Field(default_factory=list, max_length=_MAX_VOICES)
    """Sources of voices in which the same request always has the same samples."""

    @field_validator("speeds")
    @classmethod
    def _are_around_one(cls, speeds: tuple[float, float]) -> tuple[float, float]:
        if not 0.01 <= speeds[0] <= 1.0 <= speeds[1] <= 100.0:
            raise ValueError("expected the slowest and the fastest speed, around 1")
        return speeds

    @field_validator("voices")
    @classmethod
    def _are_apart_and_printable(cls, voices: list[Voice]) -> list[Voice]:
        if len({voice.id for voice in voices}) < len(voices):
            raise ValueError("two voices have the same id")
        for voice in voices:
            for text in (voice.id, voice.name, voice.source, voice.language):
                if not 1 <= len(text) <= _MAX_NAME_CHARACTERS:
                    raise ValueError(f"a voice's facts have 1 to {_MAX_NAME_CHARACTERS} characters")
                _check_printable(text)
            if not 0 <= (voice.speaker or 0) <= _MAX_SPEAKER:
                raise ValueError(f"a speaker's number is 0 to {_MAX_SPEAKER}")
        return voices


_Message = TypeVar("_Message", bound=Message)


def read_message(kind: type[_Message], data: bytes) -> _Message:
    """Raises `InvalidRequest` naming the first field that is wrong."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _first_problem(error) from None


def _made(kind: type[_Message], **fields: Any) -> _Message:
    try:
        return kind(**fields)
    except ValidationError as error:
        raise _first_problem(error) from None


def _first_problem(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False)[0]
    # A field that should not be there has a name of somebody else's.
    place = one_line(".".join(map(str, first["loc"])), 100) or "the body"
    reason = one_line(first["msg"].removeprefix("Value error, "), 300)
    too_long = first["loc"] == ("text",) and first["type"] == "string_too_long"
    code = "text_too_long" if too_long else None
    return InvalidRequest(f"{place}: {reason}", code=code, param=place)
