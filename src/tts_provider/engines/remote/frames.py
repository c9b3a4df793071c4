"""What a replica answers with, as bytes: frames, one after the other. No I/O.

    frame    kind (1 byte) · length of the payload (4 bytes, little endian) · payload

A stream ends with an `END` or an `ERROR`; one that ends otherwise was broken off.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any

import numpy as np

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
from tts_provider.speech.engine import Samples, Spoken, WordTime

MEDIA_TYPE = "application/octet-stream"
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""43 s of audio; an engine's chunk has 80 ms."""

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


@dataclass(frozen=True)
class Audio:
    samples: Samples


@dataclass(frozen=True)
class Words:
    times: Sequence[WordTime]


@dataclass(frozen=True)
class Alive:
    pass


@dataclass(frozen=True)
class End:
    pass


Frame = Audio | Words | Spoken | WireError | Alive | End


class NotOurs(ValueError):
    """Bytes that no replica of this version sends."""


def encode(frame: Frame) -> bytes:
    match frame:
        case Audio(samples):
            return _pack(Kind.AUDIO, samples.astype(_SAMPLE, copy=False).tobytes())
        case Words(times):
            return _pack(Kind.WORDS, json.dumps(list(map(astuple, times))).encode())
        case Spoken():
            return _pack(Kind.SPOKEN, json.dumps(spoken_facts(frame)).encode())
        case WireError():
            return _pack(Kind.ERROR, json.dumps(error_facts(frame)).encode())
        case Alive():
            return _pack(Kind.ALIVE)
        case End():
            return _pack(Kind.END)


class Decoder:
    """Bytes as they arrive → frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def push(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises `NotOurs` where the next one is none."""
        self._held += data
        while len(self._held) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._held)
            if length > MAX_PAYLOAD_BYTES:
                raise NotOurs(f"a frame of {length} bytes; the limit is {MAX_PAYLOAD_BYTES}")
            end = _HEADER.size + length
            if end > len(self._held):
                return
            payload = bytes(self._held[_HEADER.size : end])
            del self._held[:end]
            yield _decode(kind, payload)


def _pack(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def _decode(kind: int, payload: bytes) -> Frame:
    try:
        match kind:
            case Kind.AUDIO:
                return Audio(np.frombuffer(payload, _SAMPLE).astype(np.float32, copy=False))
            case Kind.WORDS:
                return Words([_read_word(facts) for facts in json.loads(payload)])
            case Kind.SPOKEN:
                return read_spoken(json.loads(payload))
            case Kind.ERROR:
                return read_error(json.loads(payload))
            case Kind.ALIVE:
                return Alive()
            case Kind.END:
                return End()
    except (ValueError, TypeError, KeyError) as error:
        raise NotOurs(f"a frame of kind {kind} that cannot be read: {error}") from error
    raise NotOurs(f"a frame of the unknown kind {kind}")


def _read_word(facts: list[Any]) -> WordTime:
    start, end, text_start, text_end, is_estimated = facts
    return WordTime(int(start), int(end), int(text_start), int(text_end), bool(is_estimated))


def spoken_facts(spoken: Spoken) -> dict[str, Any]:
    """A segment as JSON. Codes are unsigned 16-bit numbers, frame by frame, in base64."""
    codes = np.ascontiguousarray(spoken.codes, _CODE)
    return {
        "text": spoken.text,
        "speaker": spoken.speaker,
        "codebooks": spoken.codes.shape[1],
        "codes": base64.b64encode(codes.tobytes()).decode(),
    }


def read_spoken(facts: dict[str, Any]) -> Spoken:
    """Raises `ValueError`, `TypeError` or `KeyError` where it is none."""
    data = base64.b64decode(facts["codes"], validate=True)
    codes = np.frombuffer(data, _CODE).reshape(-1, facts["codebooks"]).astype(np.int64)
    return Spoken(str(facts["text"]), int(facts["speaker"]), codes)


_ERRORS: dict[str, type[WireError]] = {
    kind.__name__: kind
    for kind in (InvalidRequest, NoSpeech, EngineFailed, EngineLost, Draining, Loading)
}


def error_facts(problem: WireError) -> dict[str, Any]:
    """An error as data: exceptions of other processes cannot be trusted to unpickle."""
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


def read_error(facts: dict[str, Any]) -> WireError:
    """The same coded error. Raises `ValueError`, `TypeError` or `KeyError` where it is none."""
    code, message, status = str(facts["code"]), str(facts["message"]), int(facts["status"])
    param = facts.get("param")
    if "retry_after_ms" in facts:
        after_ms = int(facts["retry_after_ms"])
        return OverCapacity(message, retry_after_ms=after_ms, code=code, param=param)
    kind = _ERRORS.get(facts["kind"], WireError)
    return kind(message, code=code, param=param, http_status=status)
