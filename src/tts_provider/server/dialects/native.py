"""This server's own dialect, speech sessions at `/v1/stream`; docs/protocol.md describes the
protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.errors import InvalidRequest, OverCapacity, WireError
from tts_provider.server.dialects.dialect import (
    Action,
    Append,
    Audio,
    Begun,
    Cancel,
    Cancelled,
    ChangeVoice,
    ContextSettings,
    Dialect,
    Done,
    End,
    EngineLoading,
    Event,
    Flush,
    Flushed,
    Greeting,
    Handshake,
    Interrupt,
    Interrupted,
    Listen,
    Opening,
    Problem,
    Refuse,
    SegmentDone,
    Update,
    Updated,
    Words,
)
from tts_provider.server.dialects.fields import MAX_SEED, Fields, no_text, parse_object, read_said
from tts_provider.server.service.defaults import SESSION_FORMATS
from tts_provider.server.service.service import voice_facts
from tts_provider.server.service.word_facts import words_facts
from tts_provider.speech.engine import SAMPLE_RATE, Manner
from tts_provider.speech.reading import AS_WRITTEN, ReadingOptions

AUDIO_WAYS = ("base64", "binary")

_SETTINGS = ("voice", "format", "sample_rate", "audio", "seed", "temperature", "top_k", "speed")
_WORDS = "words"
_AHEAD = "max_ahead_ms"
_LEAST_AHEAD_MS = 400  # a chunk has up to 320
_MOST_AHEAD_MS = 24 * 3600 * 1000  # a download is not paced
_READING = ("ssml", "read_aloud", "voice_tags", "pronunciations")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "session.update": (*_SETTINGS, _WORDS, _AHEAD, *_READING),
    "input_text.append": ("context_id", "text", "voice", "continues"),
    "input_text.flush": ("context_id", "flush_id"),
    "input_text.end": ("context_id",),
    "context.cancel": ("context_id",),
    "context.interrupt": ("context_id", "played_ms"),
    "context.append_audio": (*("context_id", "text", "audio", "speaker", "voice", "continues"),),
}


class NativeDialect(Dialect):
    name = "session"
    takes_audio = True

    def __init__(self, handshake: Handshake) -> None:
        self._limits = handshake.limits
        self._find_voice = handshake.find_voice
        defaults = handshake.defaults
        self._settings = ContextSettings(
            handshake.find_voice(None),
            defaults.output("session", None, None, own="pcm"),
            manner=Manner(speed=defaults.speed),
        )

    @property
    def kept_bytes(self) -> int:
        return self._settings.reading.lexicon.size_bytes

    def receive(self, message: str) -> Sequence[Action]:
        context_id = None
        try:
            fields = Fields(parse_object(message))
            context_id = fields.string("context_id")
            return self._read(fields, context_id, len(message))
        except WireError as problem:
            return [Refuse(problem, context_id)]

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Audio(settings=settings, data=data) if settings.audio == "binary":
                return [_encode("audio.delta", **_place(event), bytes=len(data)), data]
            case Audio(data=data):
                audio = base64.b64encode(data).decode()
                return [_encode("audio.delta", **_place(event), audio=audio)]
            case SegmentDone(context_id, text, start_ms, end_ms, voice):
                body = {"text": text, "start_ms": start_ms, "end_ms": end_ms}
                body |= {"voice": voice} if voice else {}
                return [_encode("audio.segment", context_id=context_id, **body)]
            case Words(context_id, words):
                return [_encode("audio.words", context_id=context_id, **words_facts(words))]
            case Flushed(context_id, flush_id):
                return [_encode("audio.flushed", context_id=context_id, flush_id=flush_id)]
            case Done(context_id, audio_ms):
                return [_encode("context.done", context_id=context_id, audio_ms=audio_ms)]
            case Cancelled(context_id, audio_ms):
                return [_encode("context.cancelled", context_id=context_id, audio_ms=audio_ms)]
            case Interrupted(context_id, played_ms, heard, unheard):
                told = {"played_ms": played_ms, "heard": heard, "unheard": unheard}
                return [_encode("context.interrupted", context_id=context_id, **told)]
            case Problem(error, context_id):
                return [_encode("error", **_describe(error, context_id))]
            case Greeting(session_id, engine, voices, limits):
                facts = {
                    "engine": engine,
                    "sample_rate": SAMPLE_RATE,
                    "voices": [voice_facts(voice) for voice in voices],
                    "limits": limits,
                }
                return [_encode("session.created", session_id=session_id, **facts)]
            case Begun():
                return []
            case EngineLoading():
                return [_encode("session.loading")]
            case Updated(settings):
                return [_encode("session.updated", **_facts(settings))]

    def _read(self, fields: Fields, context_id: str | None, length: int) -> Sequence[Action]:
        kind = fields.choice("type", tuple(_FIELDS))
        if kind is None:
            raise InvalidRequest(f"type must be one of {', '.join(_FIELDS)}", param="type")
        fields.check_names(("type", *_FIELDS[kind]))
        if length > self._limits.max_wire_bytes and kind != "context.append_audio":
            raise InvalidRequest(
                f"the message has {length} characters; the limit is {self._limits.max_wire_bytes}",
                code="message_too_big",
            )
        if kind == "session.update":
            self._settings = self._read_settings(fields)
            return [Update(self._settings)]
        if context_id is None:
            raise InvalidRequest(f"{kind} needs a context_id", param="context_id")
        if kind == "context.append_audio":
            return [Listen(context_id, read_said(fields, self._limits), self._opening(fields))]
        if kind == "context.cancel":
            return [Cancel(context_id)]
        if kind == "context.interrupt":
            played_ms = fields.integer("played_ms", 0, MAX_SEED)
            if played_ms is None:
                raise InvalidRequest(
                    "context.interrupt needs played_ms: how much of the audio was heard",
                    param="played_ms",
                )
            return [Interrupt(context_id, played_ms)]
        if kind == "input_text.end":
            return [End(context_id)]
        if kind == "input_text.flush":
            return [Flush(context_id, fields.string("flush_id"))]
        text = fields.string("text")
        if text is None:
            raise no_text("input_text.append needs a text")
        opening = self._opening(fields)
        if not opening.is_first:
            return [Append(context_id, text, opening)]
        voice = opening.settings.voice
        append = Append(context_id, text, replace(opening, is_first=False))
        return [ChangeVoice(context_id, voice), append]

    def _opening(self, fields: Fields) -> Opening:
        voice, continues = fields.string("voice"), fields.string("continues")
        if voice is None:
            return Opening(self._settings, continues=continues)
        settings = replace(self._settings, voice=self._find_voice(voice))
        return Opening(settings, is_first=True, continues=continues)

    def _read_settings(self, fields: Fields) -> ContextSettings:
        voice = fields.string("voice")
        ahead_ms = fields.integer(_AHEAD, _LEAST_AHEAD_MS, _MOST_AHEAD_MS)
        settings = _replaced(
            self._settings,
            voice=None if voice is None else self._find_voice(voice),
            output=_replaced(
                self._settings.output,
                format=fields.choice("format", SESSION_FORMATS),
                sample_rate=fields.integer_choice("sample_rate", SAMPLE_RATES),
            ),
            audio=fields.choice("audio", AUDIO_WAYS),
            max_ahead_s=None if ahead_ms is None else ahead_ms / 1000,
            manner=_replaced(
                self._settings.manner,
                seed=fields.integer("seed", 0, MAX_SEED),
                temperature=fields.number("temperature", 0.0, 2.0),
                top_k=fields.integer("top_k", 1, 2048),
                speed=fields.number("speed", SLOWEST, FASTEST, may_be_text=True),
                word_times=fields.boolean(_WORDS),
            ),
            reading=fields.reading(),
        )
        settings.output.check()
        return settings


_Settings = TypeVar("_Settings", ContextSettings, Output, Manner)


def _replaced(settings: _Settings, **given: Any) -> _Settings:
    """The settings with the given fields replaced."""
    return replace(settings, **{k: v for k, v in given.items() if v is not None})


def _facts(settings: ContextSettings) -> dict[str, Any]:
    output, manner = settings.output, settings.manner
    return {
        "voice": settings.voice.id,
        "format": output.format,
        "sample_rate": output.sample_rate,
        "audio": settings.audio,
        "seed": manner.seed,
        "temperature": manner.temperature,
        "top_k": manner.top_k,
        "speed": manner.speed,
        **({_WORDS: True} if manner.word_times else {}),
        **({} if settings.max_ahead_s is None else {_AHEAD: round(settings.max_ahead_s * 1000)}),
        **_reading(settings.reading),
    }


def _reading(reading: ReadingOptions) -> dict[str, Any]:
    """The reading options that the session asked for."""
    if reading == AS_WRITTEN:
        return {}
    return {
        "ssml": reading.ssml,
        "read_aloud": sorted(reading.aloud),
        "voice_tags": reading.voice_tags,
        "pronunciations": dict(reading.lexicon.entries),
    }


def _place(audio: Audio) -> dict[str, Any]:
    return {
        "context_id": audio.context_id,
        "start_ms": audio.start_ms,
        "duration_ms": audio.end_ms - audio.start_ms,
    }


def _describe(problem: WireError, context_id: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "retryable": problem.retryable,
    }
    if isinstance(problem, OverCapacity):
        body["retry_after_ms"] = problem.retry_after_ms
    if context_id is not None:
        body["context_id"] = context_id
    return body


def _encode(kind: str, **body: Any) -> str:
    return json.dumps({"type": kind, **body})
