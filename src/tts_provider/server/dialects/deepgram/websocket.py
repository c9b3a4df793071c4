"""Deepgram's WebSocket, `/v1/speak`, and what its addresses share with those over HTTP.

https://developers.deepgram.com/reference/text-to-speech/speak-streaming

A connection has one stream of text and audio. It is a context here; after a clear, a new one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import AUDIO_FORMATS, Format
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.errors import InvalidRequest, NoSpeech, Unauthorized, WireError
from tts_provider.server.dialects.dialect import (
    Action,
    Answer,
    Append,
    Audio,
    Begun,
    Cancel,
    Cancelled,
    Close,
    ContextSettings,
    Dialect,
    Done,
    End,
    Event,
    Flush,
    Flushed,
    Greeting,
    Handshake,
    Opening,
    Problem,
    Refuse,
)
from tts_provider.server.dialects.fields import Fields, no_text, parse_object, parse_query
from tts_provider.server.service.defaults import Defaults
from tts_provider.speech.engine import Manner

_MESSAGES = ("Speak", "Flush", "Clear", "Close")


@dataclass(frozen=True)
class _Encoding:
    """The format of an `encoding` in each container, the usual one first, and its default rate."""

    containers: Mapping[str, Format]
    sample_rate: int


# https://developers.deepgram.com/docs/tts-media-output-settings
_ENCODINGS: Mapping[str, _Encoding] = {
    "linear16": _Encoding({"wav": "wav", "none": "pcm"}, 24_000),
    "mulaw": _Encoding({"wav": "wav-mulaw", "none": "mulaw"}, 8000),
    "alaw": _Encoding({"wav": "wav-alaw", "none": "alaw"}, 8000),
    "mp3": _Encoding({"none": "mp3"}, 22_050),
    "opus": _Encoding({"ogg": "opus"}, 48_000),
    "flac": _Encoding({"none": "flac"}, 48_000),
    "aac": _Encoding({"none": "aac"}, 22_050),
}
# Samples without a container.
_STREAMED: Mapping[str, Format] = {
    name: bare
    for name, encoding in _ENCODINGS.items()
    if (bare := encoding.containers.get("none")) and AUDIO_FORMATS[bare].sample_bytes
}
_HIGHEST_RATE = 48_000
_BIT_RATES = (4000, 192_000)


class DeepgramDialect(Dialect):
    name = "deepgram"

    def __init__(self, handshake: Handshake) -> None:
        query = parse_query(handshake.query)
        encoding = query.choice("encoding", tuple(_STREAMED)) or "linear16"
        query.choice("container", ("none",))
        settings = ContextSettings(
            handshake.find_voice(query.string("model")),
            Output(_STREAMED[encoding], _read_rate(query, encoding)),
            audio="binary",
            manner=Manner(speed=read_speed(query, handshake.defaults)),
        )
        settings.output.check()
        self._opening = Opening(settings)
        self._number = 0  # of the context
        self._is_open = False
        self._answers = 0

    def receive(self, message: str) -> Sequence[Action]:
        try:
            return self._read(Fields(parse_object(message)))
        except WireError as problem:
            return [Refuse(problem)]

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Greeting(session_id):
                voice = self._opening.settings.voice.id
                return [
                    _encode(
                        "Metadata",
                        request_id=session_id,
                        model_name=voice,
                        model_version=event.engine,
                        model_uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, voice)),
                    )
                ]
            case Begun():
                self._is_open = True
            case Audio(data=data):
                return [data]
            case Flushed():
                return [self._answer("Flushed")]
            case Cancelled(context_id):
                self._forget(context_id)
                return [self._answer("Cleared")]
            case Done(context_id):
                self._forget(context_id)
            case Problem(error, context_id, is_over):
                if is_over:
                    self._forget(context_id)
                return [_describe(error)]
        return []

    def _read(self, fields: Fields) -> Sequence[Action]:
        kind = fields.string("type")
        if kind not in _MESSAGES:
            raise InvalidRequest(f"type must be one of {', '.join(_MESSAGES)}", param="type")
        context_id = str(self._number)
        if kind == "Speak":
            text = fields.string("text")
            if text is None:
                raise no_text("Speak needs a text")
            return [Append(context_id, text, self._opening)]
        if kind == "Flush":
            if not self._is_open:
                return [Answer([self._answer("Flushed")])]
            return [Flush(context_id, may_be_empty=True)]
        if kind == "Clear":
            return [Cancel(context_id)] if self._is_open else [Answer([self._answer("Cleared")])]
        return [End(context_id), Close()] if self._is_open else [Close()]

    def _forget(self, context_id: str | None) -> None:
        """The context is over; the next text begins another."""
        if context_id == str(self._number):
            self._number += 1
            self._is_open = False

    def _answer(self, kind: str) -> str:
        message = _encode(kind, sequence_id=self._answers)
        self._answers += 1
        return message


def _describe(problem: WireError) -> str:
    """A warning if the client can go on; else an error, after which LiveKit starts again."""
    if isinstance(problem, (InvalidRequest, NoSpeech)):
        return _encode("Warning", description=problem.message, code=problem.code)
    return _encode("Error", description=problem.message, message=problem.message, code=problem.code)


def _encode(kind: str, **body: Any) -> str:
    return json.dumps({"type": kind, **body})


# What WebSocket and HTTP share


@dataclass(frozen=True)
class File:
    """The requested format of a file."""

    output: Output
    encoding: str
    container: str


def read_file(query: Fields) -> File:
    """Raises `InvalidRequest` if there is no such format."""
    encoding = query.choice("encoding", tuple(_ENCODINGS)) or "mp3"
    containers = _ENCODINGS[encoding].containers
    container = query.choice("container", tuple(containers)) or next(iter(containers))
    rate, bits = _read_rate(query, encoding), query.integer("bit_rate", *_BIT_RATES)
    return File(Output(containers[container], rate, bits), encoding, container)


def read_speed(query: Fields, defaults: Defaults) -> float:
    return query.number("speed", SLOWEST, FASTEST) or defaults.speed


def error_body(problem: WireError) -> dict[str, object]:
    """An error in the shape of Deepgram's API."""
    code = "INVALID_AUTH" if isinstance(problem, Unauthorized) else problem.code
    return {"err_code": code, "err_msg": problem.message, "request_id": str(uuid.uuid4())}


def error_headers(problem: WireError) -> dict[str, str]:
    """The same error for clients that do not see the body of a refused WebSocket."""
    return {"dg-error": problem.message.encode("ascii", "replace").decode()}


def _read_rate(query: Fields, encoding: str) -> int:
    return query.integer("sample_rate", 1, _HIGHEST_RATE) or _ENCODINGS[encoding].sample_rate
