"""Speech sessions at `/v1/stream`, without I/O: messages in → things to do, results → messages out.

A session has contexts: independent timelines that a client writes text into. Text becomes segments
here, so that what is spoken never depends on how the client cut it. docs/protocol.md describes the
wire.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tts_provider.audio.encode import check_format
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, OverCapacity, WireError
from tts_provider.server.fields import MAX_SEED, Fields, Said, check_text, parse_object, read_said
from tts_provider.speech.engine import SAMPLE_RATE, Voice
from tts_provider.speech.segment import Segmenter

SessionFormat = Literal["pcm", "mulaw", "alaw", "opus"]
SESSION_FORMATS: tuple[SessionFormat, ...] = ("pcm", "mulaw", "alaw", "opus")
AUDIO_WAYS = ("base64", "binary")

_LONGEST_ID = 128
# Ids of contexts that are over are remembered so long, to tell a late message from a wrong one.
_FINISHED_KEPT = 1024


@dataclass(frozen=True)
class ContextSettings:
    """What a context is made with."""

    voice: Voice
    format: SessionFormat = "pcm"
    sample_rate: int = SAMPLE_RATE
    audio: Literal["base64", "binary"] = "base64"
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None


# What a message asks to be done


@dataclass(frozen=True)
class Updated:
    """The session's settings are these now."""

    settings: ContextSettings


@dataclass(frozen=True)
class Begin:
    """A context is there now."""

    context_id: str
    settings: ContextSettings


@dataclass(frozen=True)
class Say:
    """Segments are complete. Text has arrived, even where there are none."""

    context_id: str
    segments: Sequence[str]


@dataclass(frozen=True)
class Flush:
    """All that was said before has been said: tell the client when it was spoken."""

    context_id: str
    flush_id: str | None


@dataclass(frozen=True)
class End:
    context_id: str


@dataclass(frozen=True)
class Cancel:
    context_id: str


@dataclass(frozen=True)
class Listen:
    """The other side of the conversation spoke."""

    context_id: str
    said: Said


@dataclass(frozen=True)
class Refuse:
    """The message cannot be served; the session goes on."""

    error: WireError
    context_id: str | None


Action = Updated | Begin | Say | Flush | End | Cancel | Listen | Refuse


@dataclass
class _Context:
    """What the client may still do with a context."""

    segmenter: Segmenter = field(default_factory=Segmenter)
    unspoken: int = 0
    """Characters of segments that are not spoken yet."""
    unheard_bytes: int = 0
    """Of the other side's audio, not looked at yet."""
    cut_character: str = ""  # the first half of a surrogate pair
    unflushed: bool = False
    ended: bool = False


class Session:
    """One connection's contexts and the settings of those to come."""

    def __init__(self, limits: Limits, find_voice: Callable[[str | None], Voice]) -> None:
        """`find_voice` raises `InvalidRequest` where there is none; None is the default voice."""
        self._limits = limits
        self._find_voice = find_voice
        self.settings = ContextSettings(find_voice(None))
        self._contexts: dict[str, _Context] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()

    def receive(self, message: str) -> list[Action]:
        """What one text message asks for, in order; one that is wrong is a single `Refuse`."""
        context_id = None
        try:
            fields = Fields(parse_object(message))
            context_id = fields.string("context_id")
            if context_id is not None and not 0 < len(context_id) <= _LONGEST_ID:
                raise InvalidRequest(
                    f"context_id must have from 1 to {_LONGEST_ID} characters; "
                    f"got {len(context_id)}",
                    param="context_id",
                )
            return self._read(fields, context_id, len(message))
        except WireError as problem:
            return [Refuse(problem, context_id)]

    def take_clause(self, context_id: str) -> Sequence[str]:
        """The writer pauses: what can be spoken already."""
        context = self._contexts.get(context_id)
        if context is None:
            return []
        return self._say(context_id, context.segmenter.take_clause()).segments

    def has_text(self, context_id: str) -> bool:
        """Whether a sentence has begun that is not complete."""
        context = self._contexts.get(context_id)
        return context is not None and context.segmenter.characters > 0

    def spoken(self, context_id: str, segment: str) -> None:
        """A segment's turn has come: there is room for more text."""
        if context_id in self._contexts:
            self._contexts[context_id].unspoken -= len(segment)

    def heard(self, context_id: str, said: Said) -> None:
        """The other side's audio was looked at: there is room for more."""
        if context_id in self._contexts:
            self._contexts[context_id].unheard_bytes -= len(said.audio)

    def finish(self, context_id: str) -> None:
        """The context is over, whatever its client still sends."""
        if self._contexts.pop(context_id, None) is not None:
            self._finished[context_id] = None
            if len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)

    def _read(self, fields: Fields, context_id: str | None, length: int) -> list[Action]:
        kind = fields.choice("type", tuple(_FIELDS))
        if kind is None:
            raise InvalidRequest(f"type must be one of {', '.join(_FIELDS)}", param="type")
        fields.check_names(("type", *_FIELDS[kind]))
        if kind == "session.update":
            self.settings = self._read_settings(fields)
            return [Updated(self.settings)]
        if context_id is None:
            raise InvalidRequest(f"{kind} needs a context_id", param="context_id")
        if kind == "context.append_audio":
            return self._append_audio(fields, context_id)
        if length > self._limits.max_message_bytes:
            raise InvalidRequest(
                f"the message has {length} characters; the limit is "
                f"{self._limits.max_message_bytes}",
                code="message_too_big",
            )
        if kind == "input_text.append":
            return self._append(fields, context_id)
        context = self._find(context_id)
        if kind == "context.cancel":
            self.finish(context_id)
            return [Cancel(context_id)]
        _check_not_ended(context, context_id)
        if kind == "input_text.end":
            context.ended = True
            return [self._say(context_id, self._close_text(context)), End(context_id)]
        if not context.unflushed:
            raise InvalidRequest(
                f"context {context_id!r} has had no text since its last flush",
                code="nothing_to_flush",
                param="context_id",
            )
        context.unflushed = False
        flush = Flush(context_id, fields.string("flush_id"))
        return [self._say(context_id, self._close_text(context)), flush]

    def _append(self, fields: Fields, context_id: str) -> list[Action]:
        text = fields.string("text")
        if text is None:
            raise InvalidRequest("input_text.append needs a text", code="no_text", param="text")
        known = self._contexts.get(context_id)
        whole = ((known.cut_character if known else "") + text).encode("utf-16-le", "surrogatepass")
        text = whole.decode("utf-16-le", "surrogatepass")
        cut = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text[: len(text) - len(cut)]
        check_text(text, self._limits)
        if known is not None:
            self._check_length(known, text)
        begin = self._open(fields, context_id)
        context = self._contexts[context_id]
        context.cut_character = cut
        context.unflushed = context.unflushed or bool(text.strip())
        return [*begin, self._say(context_id, context.segmenter.push(text))]

    def _append_audio(self, fields: Fields, context_id: str) -> list[Action]:
        said, limit = read_said(fields, self._limits), self._limits.max_audio_message_bytes
        known = self._contexts.get(context_id)
        if known is not None and known.unheard_bytes + len(said.audio) > limit:
            raise InvalidRequest(
                f"context {context_id!r} has {known.unheard_bytes} bytes of audio that it could "
                f"not look at yet; the limit is {limit}",
                code="too_much_audio",
                param="audio",
            )
        begin = self._open(fields, context_id)
        self._contexts[context_id].unheard_bytes += len(said.audio)
        return [*begin, Listen(context_id, said)]

    def _say(self, context_id: str, segments: Sequence[str]) -> Say:
        self._contexts[context_id].unspoken += sum(map(len, segments))
        return Say(context_id, segments)

    def _check_length(self, context: _Context, text: str) -> None:
        waiting, limit = context.unspoken + context.segmenter.characters, self._limits
        if waiting + len(text) > limit.max_text_characters:
            raise InvalidRequest(
                f"the context would have {waiting + len(text)} characters that are not spoken "
                f"yet; the limit is {limit.max_text_characters}",
                code="text_too_long",
                param="text",
            )

    def _open(self, fields: Fields, context_id: str) -> list[Action]:
        """The context's beginning, if it is new."""
        voice = fields.string("voice")
        if context_id in self._contexts:
            _check_not_ended(self._contexts[context_id], context_id)
            if voice is not None:
                raise InvalidRequest(
                    f"context {context_id!r} has its voice; "
                    "give one with a context's first message only",
                    param="voice",
                )
            return []
        if context_id in self._finished:
            raise _finished(context_id)
        limit = self._limits.max_contexts
        if len(self._contexts) >= limit:
            raise OverCapacity(
                f"this connection has {limit} contexts, the limit; end or cancel one first",
                code="too_many_contexts",
                param="context_id",
                retry_after_ms=1000,
            )
        settings = self.settings
        if voice is not None:
            settings = replace(settings, voice=self._find_voice(voice))
        self._contexts[context_id] = _Context()
        return [Begin(context_id, settings)]

    def _find(self, context_id: str) -> _Context:
        if context_id in self._contexts:
            return self._contexts[context_id]
        if context_id in self._finished:
            raise _finished(context_id)
        raise InvalidRequest(
            f"there is no context {context_id!r}; input_text.append makes one",
            code="unknown_context",
            param="context_id",
        )

    def _close_text(self, context: _Context) -> Sequence[str]:
        if context.cut_character:
            context.cut_character = ""
            return [*context.segmenter.push("\ufffd"), *context.segmenter.flush()]
        return context.segmenter.flush()

    def _read_settings(self, fields: Fields) -> ContextSettings:
        voice = fields.string("voice")
        given = {
            "voice": None if voice is None else self._find_voice(voice),
            "format": fields.choice("format", SESSION_FORMATS),
            "sample_rate": fields.integer_choice("sample_rate", SAMPLE_RATES),
            "audio": fields.choice("audio", AUDIO_WAYS),
            "seed": fields.integer("seed", 0, MAX_SEED),
            "temperature": fields.number("temperature", 0.0, 2.0),
            "top_k": fields.integer("top_k", 1, 2048),
        }
        settings = replace(self.settings, **{k: v for k, v in given.items() if v is not None})
        check_format(settings.format, settings.sample_rate)
        return settings


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "session.update": tuple(
        "voice format sample_rate audio seed temperature top_k".split()  # noqa: SIM905
    ),
    "input_text.append": ("context_id", "text", "voice"),
    "input_text.flush": ("context_id", "flush_id"),
    "input_text.end": ("context_id",),
    "context.cancel": ("context_id",),
    "context.append_audio": ("context_id", "text", "audio", "speaker", "voice"),
}


def _check_not_ended(context: _Context, context_id: str) -> None:
    if context.ended:
        raise InvalidRequest(
            f"context {context_id!r} was ended; begin another one",
            code="context_ended",
            param="context_id",
        )


def _finished(context_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"context {context_id!r} is over; begin another one",
        code="context_finished",
        param="context_id",
    )


# What the server says


def created(session_id: str, facts: Mapping[str, Any]) -> str:
    return _encode("session.created", session_id=session_id, **facts)


def loading() -> str:
    return _encode("session.loading")


def updated(settings: ContextSettings) -> str:
    values = {name: getattr(settings, name) for name in _FIELDS["session.update"]}
    return _encode("session.updated", **{**values, "voice": settings.voice.id})


def delta(context_id: str, start_ms: int, duration_ms: int, data: bytes, audio: str) -> str:
    """The message before a binary one, or all of it in base64."""
    place = {"context_id": context_id, "start_ms": start_ms, "duration_ms": duration_ms}
    if audio == "binary":
        return _encode("audio.delta", **place, bytes=len(data))
    return _encode("audio.delta", **place, audio=base64.b64encode(data).decode())


def segment(context_id: str, text: str, start_ms: int, end_ms: int) -> str:
    return _encode(
        "audio.segment", context_id=context_id, text=text, start_ms=start_ms, end_ms=end_ms
    )


def flushed(context_id: str, flush_id: str | None) -> str:
    return _encode("audio.flushed", context_id=context_id, flush_id=flush_id)


def done(context_id: str, audio_ms: int) -> str:
    return _encode("context.done", context_id=context_id, audio_ms=audio_ms)


def cancelled(context_id: str, audio_ms: int) -> str:
    return _encode("context.cancelled", context_id=context_id, audio_ms=audio_ms)


def error(problem: WireError, context_id: str | None = None) -> str:
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
    return _encode("error", **body)


def _encode(kind: str, **body: Any) -> str:
    return json.dumps({"type": kind, **body})
