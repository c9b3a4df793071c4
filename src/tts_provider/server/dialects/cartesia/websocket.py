"""Cartesia's WebSocket, `/tts/websocket`, and what its requests share with those over HTTP.

https://docs.cartesia.ai/api-reference/tts/websocket
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import Format
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.dialects.dialect import (
    Action,
    Append,
    Audio,
    Begun,
    Cancel,
    Cancelled,
    ContextSettings,
    Dialect,
    Done,
    End,
    Event,
    Flush,
    Flushed,
    Handshake,
    Opening,
    Problem,
    Refuse,
    Words,
)
from tts_provider.server.dialects.fields import Fields, no_text, parse_object
from tts_provider.server.service.defaults import Defaults
from tts_provider.speech.engine import Manner, Word
from tts_provider.speech.reading import ReadingOptions

READING = ReadingOptions(tags=True)
"""The service obeys `<break>` and `<spell>` in any transcript."""

# The status code of a message that is not the last one.
_MORE, _LAST = 206, 200
_MAX_DELAY_MS = 5000

_ENCODINGS: Mapping[str, Format] = {
    "pcm_s16le": "pcm",
    "pcm_f32le": "f32le",
    "pcm_mulaw": "mulaw",
    "pcm_alaw": "alaw",
}
_WAV_ENCODINGS: Mapping[str, Format] = {
    "pcm_s16le": "wav",
    "pcm_f32le": "wav-f32le",
    "pcm_mulaw": "wav-mulaw",
    "pcm_alaw": "wav-alaw",
}
_BIT_RATES = (32_000, 64_000, 96_000, 128_000, 192_000)
_SPEEDS = {"slowest": 0.6, "slow": 0.8, "normal": 1.0, "fast": 1.2, "fastest": 1.5}


@dataclass
class _Context:
    """The state of a context, from which its messages get their numbers."""

    opening: Opening
    flushes_each: bool
    """The client buffers its text, so each of its messages is to be spoken at once."""
    failed: bool = False
    flushes: int = 0
    flushed: int = 0


class CartesiaDialect(Dialect):
    name = "cartesia"

    def __init__(self, handshake: Handshake) -> None:
        self._find_voice, self._defaults = handshake.find_voice, handshake.defaults
        self._contexts: dict[str, _Context] = {}
        self._beginning: _Context | None = None
        """The context that the last message may have begun."""

    def receive(self, message: str) -> Sequence[Action]:
        context_id = None
        try:
            body = parse_object(message)
            context_id = Fields(body).string("context_id")
            return self._read(body, context_id)
        except WireError as problem:
            return [Refuse(problem, context_id)]

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Begun(context_id):
                assert self._beginning is not None, "a message begins it"
                self._contexts[context_id] = self._beginning
            case Audio(context_id, data=data):
                return [chunk(data, context_id, flush_id=self._flush_id(context_id))]
            case Words(context_id, words):
                return [timestamps(words, context_id, flush_id=self._flush_id(context_id))]
            case Flushed(context_id, flush_id):
                self._contexts[context_id].flushed += 1
                number = int(flush_id or 0)
                return [_encode("flush_done", context_id, flush_done=True, flush_id=number)]
            case Done(context_id):
                context = self._contexts.pop(context_id, None)
                return [] if context is None or context.failed else [done(context_id)]
            case Cancelled(context_id):
                # The client has forgotten it and expects nothing more from it.
                del self._contexts[context_id]
            case Problem(error, context_id):
                if event.is_over and context_id in self._contexts:
                    self._contexts[context_id].failed = True
                return [failure(error, context_id)]
        return []

    def _read(self, body: dict[str, Any], context_id: str | None) -> list[Action]:
        fields = Fields(body)
        if context_id is None:
            raise InvalidRequest("a message needs a context_id", param="context_id")
        if fields.boolean("cancel"):
            return [Cancel(context_id)]
        text, flush = fields.string("transcript"), fields.boolean("flush")
        if text is None and not flush:
            raise no_text("a message needs a transcript, a flush or a cancel", "transcript")
        continues = fields.boolean("continue")
        context, actions = self._contexts.get(context_id), list[Action]()
        is_first = context is None
        if context is None:
            context = self._beginning = self._open(body)
        # A context without text begins too, because its place and its id count.
        if text or (is_first and text is not None):
            actions.append(Append(context_id, text, context.opening))
        if flush or (context.flushes_each and continues and text and text.strip()):
            context.flushes += 1
            actions.append(Flush(context_id, str(context.flushes), may_be_empty=True))
        if not continues:
            actions.append(End(context_id))
        return actions

    def _open(self, body: dict[str, Any]) -> _Context:
        fields = Fields(body)
        delay_ms = fields.integer("max_buffer_delay_ms", 0, _MAX_DELAY_MS)
        file = read_file(fields.object("output_format"))
        if not file.is_raw:
            raise InvalidRequest(
                f"over a WebSocket the container is raw; {file.container} is at /tts/bytes",
                param="output_format",
            )
        settings = ContextSettings(
            self._find_voice(read_voice(body)),
            file.output,
            clause_pause_s=delay_ms / 1000 if delay_ms else None,
            manner=Manner(
                speed=read_speed(fields, self._defaults),
                word_times=fields.boolean("add_timestamps") or False,
            ),
            reading=READING,
        )
        return _Context(Opening(settings), flushes_each=delay_ms == 0)

    def _flush_id(self, context_id: str) -> int:
        """The number of the flush that is spoken now, counted from 1."""
        return self._contexts[context_id].flushed + 1


# What WebSocket and HTTP read


@dataclass(frozen=True)
class File:
    """An `output_format`."""

    container: str
    output: Output

    @property
    def is_raw(self) -> bool:
        return self.container == "raw"


def read_file(fields: Fields | None) -> File:
    """Raises `InvalidRequest` if there is no such `output_format`."""
    if fields is None:
        raise InvalidRequest(
            "output_format is needed: its container, encoding and sample_rate",
            param="output_format",
        )
    container = fields.choice("container", ("raw", "wav", "mp3")) or "raw"
    rate = fields.integer_choice("sample_rate", SAMPLE_RATES)
    if rate is None:
        raise InvalidRequest(
            f"output_format needs a sample_rate: {', '.join(map(str, SAMPLE_RATES))}",
            param="sample_rate",
        )
    if container == "mp3":
        bits = fields.integer_choice("bit_rate", _BIT_RATES)
        return File(container, Output("mp3", rate, bits))
    encoding = fields.choice("encoding", tuple(_ENCODINGS))
    if encoding is None:
        raise InvalidRequest(
            f"output_format needs an encoding: {', '.join(_ENCODINGS)}", param="encoding"
        )
    formats = _WAV_ENCODINGS if container == "wav" else _ENCODINGS
    return File(container, Output(formats[encoding], rate))


def read_voice(body: Mapping[str, Any]) -> str | None:
    """The id of the requested voice, as a string or in an object. None is the default.

    Raises `InvalidRequest`.
    """
    voice = body.get("voice")
    if not isinstance(voice, dict):
        return Fields(body).string("voice") or None
    if voice.get("embedding") is not None:
        raise InvalidRequest(
            "a voice has an id here; there are none by embedding",
            code="unknown_voice",
            param="voice",
        )
    return Fields(voice).string("id") or None


def read_speed(fields: Fields, defaults: Defaults) -> float:
    """The speed of a `generation_config`, else of the word in `speed`. Raises `InvalidRequest`."""
    config = fields.object("generation_config")
    speed = config.number("speed", SLOWEST, FASTEST) if config is not None else None
    if speed is None:
        speed = _SPEEDS.get(fields.choice("speed", tuple(_SPEEDS)))
    return speed or defaults.speed


# What WebSocket and HTTP write


def chunk(data: bytes, context_id: str | None, **more: Any) -> str:
    audio = base64.b64encode(data).decode()
    # A dialect has no clock, and no known client uses the time.
    return _encode("chunk", context_id, data=audio, step_time=0.0, **more)


def timestamps(words: Sequence[Word], context_id: str | None, **more: Any) -> str:
    table = {
        "words": [word.text for word in words],
        "start": [word.start_ms / 1000 for word in words],
        "end": [word.end_ms / 1000 for word in words],
    }
    return _encode("timestamps", context_id, word_timestamps=table, **more)


def done(context_id: str | None) -> str:
    return _encode("done", context_id, status_code=_LAST, done=True)


def failure(problem: WireError, context_id: str | None) -> str:
    """The message of an error. Its `done` is false, because LiveKit takes a true one for
    success."""
    return _encode("error", context_id, **error_body(problem))


def error_body(problem: WireError) -> dict[str, object]:
    """An error in the shape of Cartesia's API."""
    return {
        "title": problem.code.replace("_", " ").capitalize(),
        "message": problem.message,
        "error_code": problem.code,
        "status_code": problem.http_status,
    }


def _encode(kind: str, context_id: str | None, **body: Any) -> str:
    common = {"type": kind, "context_id": context_id, "status_code": _MORE, "done": False}
    return json.dumps({**common, **body})
