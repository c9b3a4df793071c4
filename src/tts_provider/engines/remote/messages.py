"""What a gateway asks a replica, and what a replica says of itself: JSON of a fixed shape."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tts_provider.engines.remote.frames import read_spoken, spoken_facts
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import History, Phonemes, Samples, Spoken, Utterance, Voice
from tts_provider.speech.lexicon import LONGEST_ENTRY

VERSION = 1
"""Of the contract: both sides must have the same."""
VOICE_HEADER = "serve_multiplexed_model_id"
"""Ray Serve's: requests with the same value go to the same replica, which has that voice ready."""
REPLICA_HEADER = "x-tts-replica"
"""Which replica answers."""

_HISTORY_SEGMENTS = 4
"""How much of a conversation travels: as much as CSM-1B takes into its prompt."""
_MAX_TEXT_CHARACTERS = 20_000
"""Of one passage: its segment has 300, of which each may be several words."""
_SAMPLE = np.dtype("<f4")


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    version: int = VERSION

    @field_validator("version")
    @classmethod
    def _is_ours(cls, version: int) -> int:
        if version != VERSION:
            raise ValueError(
                f"gateways and replicas must have the same release: the contract's version is "
                f"{VERSION} here and {version} there"
            )
        return version


class Segment(BaseModel):
    """What was said before, as an engine remembers it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str
    speaker: int
    codebooks: int = Field(ge=1, le=64)
    codes: str

    def spoken(self) -> Spoken:
        return read_spoken(self.model_dump())


class Pronounced(BaseModel):
    """Characters from `start` to before `end` are pronounced so, in IPA."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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
    history: list[Segment] = Field(default_factory=list, max_length=_HISTORY_SEGMENTS)
    """The last segments of the same timeline."""
    history_count: int = Field(0, ge=0)
    """How many there were, which is part of the seed."""
    with_words: bool = False
    """Whether somebody wants to know when each word is spoken."""
    ahead_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    """How far ahead of its listener the audio may be; None where nobody listens meanwhile."""
    phonemes: list[Pronounced] = Field(default_factory=list, max_length=_MAX_TEXT_CHARACTERS)
    """How parts of the text are pronounced, in order."""

    @model_validator(mode="after")
    def _are_in_the_text(self) -> SpeakRequest:
        done = 0
        for part in self.phonemes:
            if not done <= part.start < part.end <= len(self.text):
                raise ValueError("phonemes must be of parts of the text, in order")
            done = part.end
        return self

    @classmethod
    def of(cls, utterance: Utterance) -> SpeakRequest:
        kept = utterance.history.segments[-_HISTORY_SEGMENTS:]
        return cls(
            text=utterance.text,
            voice=utterance.voice.id,
            temperature=utterance.temperature,
            top_k=utterance.top_k,
            seed=utterance.seed,
            max_audio_ms=utterance.max_audio_ms,
            speed=utterance.speed,
            with_words=utterance.with_words,
            history=[Segment(**spoken_facts(spoken)) for spoken in kept],
            history_count=utterance.history.count,
            ahead_s=utterance.ahead_s,
            phonemes=[Pronounced(**asdict(part)) for part in utterance.phonemes],
        )

    def utterance(self, voice: Voice) -> Utterance:
        """Raises `InvalidRequest` where the history cannot be read."""
        try:
            segments = [segment.spoken() for segment in self.history]
        except ValueError as error:
            raise InvalidRequest(f"history cannot be read: {error}", param="history") from None
        return Utterance(
            text=self.text,
            voice=voice,
            temperature=self.temperature,
            top_k=self.top_k,
            seed=self.seed,
            max_audio_ms=self.max_audio_ms,
            speed=self.speed,
            with_words=self.with_words,
            history=History(segments, self.history_count),
            phonemes=tuple(part.phonemes() for part in self.phonemes),
        )


class ListenRequest(Message):
    """`POST /listen`: what somebody else said."""

    text: str = Field(max_length=20 * _MAX_TEXT_CHARACTERS)
    speaker: int
    samples: str
    """float32, little endian, mono, 24 kHz, in base64."""

    @classmethod
    def of(cls, text: str, speaker: int, samples: Samples) -> ListenRequest:
        data = samples.astype(_SAMPLE, copy=False).tobytes()
        return cls(text=text, speaker=speaker, samples=base64.b64encode(data).decode())

    def audio(self) -> Samples:
        """(n,) at 24 kHz. Raises `InvalidRequest`."""
        try:
            data = np.frombuffer(base64.b64decode(self.samples, validate=True), _SAMPLE)
        except ValueError as error:
            raise InvalidRequest(f"samples cannot be read: {error}", param="samples") from None
        return data.astype(np.float32, copy=False)


class Description(Message):
    """`GET /describe`: what a replica speaks with."""

    replica: str
    engine: str
    model: str
    device: str
    precision: str
    speeds: tuple[float, float]
    takes_prompts: bool
    voices: list[Voice] = Field(min_length=1)
    max_streams: int


_Message = TypeVar("_Message", bound=Message)


def read_message(kind: type[_Message], data: bytes) -> _Message:
    """Raises `InvalidRequest` naming the first field that is wrong."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise InvalidRequest(
            f"{place}: {first['msg'].removeprefix('Value error, ')}", param=place
        ) from None
