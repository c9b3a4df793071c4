"""What a replica answers with, as bytes: frames, one after the other. No I/O.

    frame    kind (1 byte) · length of the payload (4 bytes, little endian) · payload

A stream ends with an `END` or an `ERROR`; one that ends otherwise was broken off. What arrives is
believed to be of this shape only as far as it was checked, and to end only because it has `Bounds`.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tts_provider.errors import (
    Draining,
    EngineFailed,
    EngineLost,
    InvalidRequest,
    Loading,
    NoSpeech,
    OverCapacity,
    WireError,
)
from tts_provider.speech.engine import SAMPLE_RATE, Samples, Spoken, Utterance, Word

MEDIA_TYPE = "application/octet-stream"
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""43 s of audio; an engine's chunk has 80 ms."""

_LEAST_AUDIO_S = 10.0
_AUDIO_S_A_CHARACTER = 2.0
"""Speech has 0.06 s a character. What takes longest are signs that espeak-ng spells: 1.2 s each."""
_BYTES_A_CHARACTER = 12
"""The longest way to write one in JSON: two escapes."""
_SPARE_CHARACTERS = 16
"""An engine remembers a text with an end mark that it had not."""
_BYTES_A_WORD = 64
_BYTES_OF_CODES = 176
"""Of 64 codebooks, in base64."""
_SPARE_BYTES = 16 * 1024
_MOST_BYTES = 1024 * 1024
_SPARE_FRAMES = 1024
_SAMPLES_A_FRAME = 240
"""An engine's frames are longer than these 10 ms."""
_CODES_A_SECOND = 25
"""Twice as many as Mimi has."""
_LOUDEST = 8.0
"""Samples are within [-1, 1] but for what a filter adds."""
_MAX_MESSAGE_CHARACTERS = 500
_MAX_PARAM_CHARACTERS = 100
_LAST_STATUS = 599
_MAX_RETRY_AFTER_MS = 60_000
_MAX_NUMBER = 2**31 - 1

_HEADER = struct.Struct("<BI")
_SAMPLE = np.dtype("<f4")
_CODE = np.dtype("<u2")


class Kind(IntEnum):
    AUDIO = 1
    """float32 samples, little endian, mono, 24 kHz."""
    WORDS = 2
    """JSON: when words are spoken, `[start, end, text_start, text_end, is_estimated]` each, in
    samples and characters; audio follows, if only none."""
    SPOKEN = 3
    """JSON: the segment as the engine remembers it, for the history."""
    ERROR = 4
    """JSON: what went wrong; the last frame."""
    END = 5
    """Empty: all was sent; the last frame."""
    ALIVE = 6
    """Empty: the engine is at work and has nothing yet."""


_KINDS = frozenset(Kind)


@dataclass(frozen=True)
class SamplesFrame:
    samples: Samples


@dataclass(frozen=True)
class WordsFrame:
    times: Sequence[Word]


@dataclass(frozen=True)
class Alive:
    pass


@dataclass(frozen=True)
class End:
    pass


Frame = SamplesFrame | WordsFrame | Spoken | WireError | Alive | End


class NotOurs(ValueError):
    """What no replica of this release does; the message goes on after its name."""


@dataclass(frozen=True)
class Bounds:
    """What an answer to one request may come to."""

    samples: int
    """Of audio, in all."""
    characters: int
    """Of the text that was sent: words have their places in it."""
    code_frames: int
    """Of a segment that is remembered."""

    @classmethod
    def of_speech(cls, utterance: Utterance) -> Bounds:
        """10 s of audio and 2 s for each character of the text and of its phonemes, at speed 1; or
        as much as the request allows, where that is more."""
        characters = len(utterance.text)
        signs = characters + sum(len(part.ipa) for part in utterance.phonemes)
        audio_s = (_LEAST_AUDIO_S + _AUDIO_S_A_CHARACTER * signs) / min(utterance.manner.speed, 1.0)
        if utterance.manner.max_audio_ms is not None:
            audio_s = max(audio_s, utterance.manner.max_audio_ms / 1000 + 1.0)
        return cls(int(audio_s * SAMPLE_RATE), characters, math.ceil(audio_s * _CODES_A_SECOND))

    @classmethod
    def of_listening(cls, text: str, samples: Samples) -> Bounds:
        """No audio: what was heard, as codes."""
        audio_s = len(samples) / SAMPLE_RATE
        return cls(0, len(text), math.ceil((audio_s + 1.0) * _CODES_A_SECOND))

    def payload_bytes(self, kind: int) -> int:
        """Of all frames of a kind: what it costs to read them is in proportion to the text, too."""
        match kind:
            case Kind.AUDIO:
                return self.samples * _SAMPLE.itemsize
            case Kind.WORDS:
                return _SPARE_BYTES + _BYTES_A_WORD * self.characters
            case Kind.SPOKEN:
                codes_bytes = min(_BYTES_OF_CODES * self.code_frames, _MOST_BYTES)
                return _SPARE_BYTES + _BYTES_A_CHARACTER * self.characters + codes_bytes
            case Kind.ERROR:
                return _SPARE_BYTES
            case _:
                return 0

    @property
    def frames(self) -> int:
        return _SPARE_FRAMES + self.samples // _SAMPLES_A_FRAME


def encode(frame: Frame) -> bytes:
    match frame:
        case SamplesFrame(samples):
            return _pack(Kind.AUDIO, samples.astype(_SAMPLE, copy=False).tobytes())
        case WordsFrame(times):
            return _pack(Kind.WORDS, json.dumps(list(map(_word_facts, times))).encode())
        case Spoken():
            return _pack(Kind.SPOKEN, spoken_facts(frame).model_dump_json().encode())
        case WireError():
            return _pack(Kind.ERROR, json.dumps(error_facts(frame)).encode())
        case Alive():
            return _pack(Kind.ALIVE)
        case End():
            return _pack(Kind.END)


class Decoder:
    """Bytes as they arrive → frames."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._held = bytearray()
        self._frames = 0
        self._payload_bytes = dict.fromkeys(_KINDS, 0)

    def push(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises `NotOurs` where the next one is none, or one too
        many."""
        self._held += data
        while len(self._held) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._held)
            self._check_header(kind, length)
            end = _HEADER.size + length
            if end > len(self._held):
                return
            payload = bytes(self._held[_HEADER.size : end])
            del self._held[:end]
            self._frames += 1
            self._payload_bytes[Kind(kind)] += length
            yield _decode(kind, payload, self._bounds)

    @property
    def is_within_frame(self) -> bool:
        return bool(self._held)

    def _check_header(self, kind: int, length: int) -> None:
        """Before the payload is there: nothing that is not wanted is kept."""
        if kind not in _KINDS:
            raise NotOurs(f"sent a frame of the unknown kind {kind}")
        if length > MAX_PAYLOAD_BYTES:
            raise NotOurs(f"sent a frame of {length} bytes; the limit is {MAX_PAYLOAD_BYTES}")
        most_bytes = self._bounds.payload_bytes(kind)
        if self._payload_bytes[Kind(kind)] + length > most_bytes:
            if kind == Kind.AUDIO:
                most_s = self._bounds.samples / SAMPLE_RATE
                raise NotOurs(f"sent more audio than the text can be: over {most_s:g} s")
            name = Kind(kind).name.lower()
            raise NotOurs(f"sent more than {most_bytes} bytes of {name} for such a text")
        if self._frames >= self._bounds.frames:
            raise NotOurs(f"sent more than {self._bounds.frames} frames for such a text")


def _pack(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def _decode(kind: int, payload: bytes, bounds: Bounds) -> Frame:
    try:
        match kind:
            case Kind.AUDIO:
                return SamplesFrame(_read_samples(payload))
            case Kind.WORDS:
                return WordsFrame(_read_words(payload, bounds))
            case Kind.SPOKEN:
                spoken = read_spoken(SpokenMessage.model_validate_json(payload))
                _check_spoken(spoken, bounds)
                return spoken
            case Kind.ERROR:
                return read_error(payload)
            case Kind.ALIVE:
                return Alive()
            case _:
                return End()
    except ValidationError as error:
        reason = one_line(error.errors(include_url=False, include_input=False)[0]["msg"], 200)
    except ValueError as error:
        reason = one_line(str(error), 200)
    raise NotOurs(f"sent a frame of kind {kind} that cannot be read: {reason}")


def _read_samples(payload: bytes) -> Samples:
    samples = np.frombuffer(payload, _SAMPLE).astype(np.float32, copy=False)
    # A number that is none is not within them either.
    if len(samples) and not (samples.min() >= -_LOUDEST and samples.max() <= _LOUDEST):
        raise ValueError("samples are not finite, or far beyond [-1, 1]")
    return samples


_Place = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
_WORDS: TypeAdapter[list[tuple[int, int, int, int, bool]]] = TypeAdapter(
    list[tuple[_Place, _Place, _Place, _Place, bool]],
    config=ConfigDict(strict=True, hide_input_in_errors=True),
)


def _word_facts(word: Word) -> tuple[int, int, int, int, bool]:
    return word.start, word.end, word.text_start, word.text_end, word.is_estimated


def _read_words(payload: bytes, bounds: Bounds) -> list[Word]:
    words = [Word(*facts) for facts in _WORDS.validate_json(payload)]
    for word in words:
        if not word.start <= word.end <= bounds.samples:
            raise ValueError("a word is not within the audio")
        if not word.text_start <= word.text_end <= bounds.characters:
            raise ValueError("a word is not within the text")
    return words


class SpokenMessage(BaseModel):
    """What was said before, as an engine remembers it. Codes are unsigned 16-bit numbers, frame by
    frame, in base64."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    text: str
    speaker: int = Field(ge=-_MAX_NUMBER, le=_MAX_NUMBER)
    codebooks: int = Field(ge=1, le=64)
    codes: str
    voice: str = Field("", max_length=200)


def spoken_facts(spoken: Spoken) -> SpokenMessage:
    codes = np.ascontiguousarray(spoken.codes, _CODE)
    return SpokenMessage(
        text=spoken.text,
        speaker=spoken.speaker,
        codebooks=spoken.codes.shape[1],
        codes=base64.b64encode(codes.tobytes()).decode(),
        voice=spoken.voice,
    )


def read_spoken(segment: SpokenMessage) -> Spoken:
    """Raises `ValueError` where its codes are none."""
    data = base64.b64decode(segment.codes, validate=True)
    codes = np.frombuffer(data, _CODE).reshape(-1, segment.codebooks).astype(np.int64)
    return Spoken(segment.text, segment.speaker, codes, segment.voice)


def _check_spoken(spoken: Spoken, bounds: Bounds) -> None:
    """It is kept, and sent with what is said next."""
    most_characters = bounds.characters + _SPARE_CHARACTERS
    if len(spoken.text) > most_characters or len(spoken.codes) > bounds.code_frames:
        raise ValueError("a segment that is longer than what was asked for")


class ErrorFacts(BaseModel):
    """An error as data: exceptions of other processes cannot be trusted to unpickle."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    kind: str
    code: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    message: str
    param: str | None = None
    status: int = Field(ge=400, le=_LAST_STATUS)
    retry_after_ms: int | None = Field(None, ge=0, le=_MAX_RETRY_AFTER_MS)


_ERRORS: dict[str, type[WireError]] = {
    kind.__name__: kind
    for kind in (InvalidRequest, NoSpeech, EngineFailed, EngineLost, Draining, Loading)
}


def error_facts(problem: WireError) -> dict[str, Any]:
    """As `ErrorFacts` has them."""
    facts = {
        "kind": type(problem).__name__,
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "status": problem.http_status,
    }
    if isinstance(problem, OverCapacity):
        facts["retry_after_ms"] = problem.retry_after_ms
    return facts


def read_error(payload: bytes) -> WireError:
    """The same coded error. Raises `ValidationError` where it is none."""
    return error_of(ErrorFacts.model_validate_json(payload))


def error_of(facts: ErrorFacts) -> WireError:
    """What it says goes to clients and into the log, so it is one line of bounded length."""
    message = one_line(facts.message, _MAX_MESSAGE_CHARACTERS)
    param = None if facts.param is None else one_line(facts.param, _MAX_PARAM_CHARACTERS)
    if facts.retry_after_ms is not None:
        return OverCapacity(
            message, retry_after_ms=facts.retry_after_ms, code=facts.code, param=param
        )
    kind = _ERRORS.get(facts.kind, WireError)
    return kind(message, code=facts.code, param=param, http_status=facts.status)


def one_line(text: str, max_characters: int) -> str:
    """Somebody else's text for a log or a terminal: no line break, escape code or change of
    direction in it."""
    shown = "".join(c if c.isprintable() else " " for c in text[: max_characters + 1])
    return shown if len(shown) <= max_characters else f"{shown[: max_characters - 1]}…"
