"""ElevenLabs' WebSockets: one text at `…/stream-input`, contexts at `…/multi-stream-input`.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import AUDIO_FORMATS, Format
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.errors import InvalidRequest, NoSpeech, Unauthorized, WireError
from tts_provider.server.dialects.dialect import (
    Action,
    Append,
    Audio,
    Begun,
    Close,
    ContextSettings,
    Dialect,
    Done,
    End,
    Event,
    Flush,
    Handshake,
    Opening,
    Problem,
    Refuse,
    Words,
)
from tts_provider.server.dialects.fields import Fields, no_text, parse_object, parse_query
from tts_provider.speech.engine import Manner, Word
from tts_provider.speech.reading import ReadingOptions

_FORMATS: Mapping[str, Format] = {
    "pcm": "pcm",
    "mp3": "mp3",
    "opus": "opus",
    "ulaw": "mulaw",
    "alaw": "alaw",
    "wav": "wav",
}
_KBITS = (32, 48, 64, 96, 128, 192)
# MPEG-1 has no rates below 32 kHz; MPEG-2 and 2.5 have lower bit rates.
_MP3_MOST_KBITS = dict.fromkeys((8000, 11_025, 12_000), 64) | dict.fromkeys(
    (16_000, 22_050, 24_000), 160
)
DEFAULT_OUTPUT = "mp3_44100_128"

_STREAM_BYTES = 512
_INACTIVITY_S = 20.0
ONLY_CONTEXT = "default"
# How long to wait for more text. With `auto_mode` a client sends whole phrases; otherwise it is how
# long a language model takes to write the characters that the client wants to wait for, at 50
# tokens of four characters a second.
_WHOLE_PHRASES_S = 0.05
_WRITTEN_CHARACTERS_A_SECOND = 200
_HOW_TO_SEND = "send one as the header xi-api-key or so named in the first message"

KEY_HEADER = "xi-api-key"
_PATHS = ("/v1/text-to-speech/", "/v1/text-to-dialogue", "/v1/voices", "/v2/voices", "/v1/user")
_TYPES = {
    400: "validation_error",
    401: "authentication_error",
    403: "authorization_error",
    404: "not_found",
    422: "validation_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}
_CODES = {
    "unauthorized": "invalid_api_key",
    "unknown_voice": "voice_not_found",
    "text_too_long": "max_character_limit_exceeded",
    "over_capacity": "system_busy",
    "too_many_streams": "concurrent_limit_exceeded",
}


def read_output(name: str) -> Output:
    """Raises `InvalidRequest` if this server does not have the `output_format`."""
    codec, _, numbers = name.strip().lower().partition("_")
    rate, _, kbits = numbers.partition("_")
    if codec not in _FORMATS or not rate.isdecimal() or (kbits and not kbits.isdecimal()):
        raise InvalidRequest(
            f"output_format must be like pcm_24000, mp3_44100_128, opus_48000_64, ulaw_8000, "
            f"alaw_8000 or wav_24000; got {name[:60]!r}",
            param="output_format",
        )
    output = Output(_FORMATS[codec], int(rate[:9]), int(kbits[:9]) * 1000 if kbits else None)
    try:
        output.check()
    except InvalidRequest as problem:
        raise InvalidRequest(
            f"output_format {name[:60]!r} does not exist: {problem.message}", param="output_format"
        ) from None
    most = _MP3_MOST_KBITS.get(output.sample_rate, 192) if codec == "mp3" else 192
    allowed = [kbit for kbit in _KBITS if kbit <= most] if codec in ("mp3", "opus") else []
    if kbits and int(kbits[:9]) not in allowed:
        known = ", ".join(map(str, allowed)) or "none"
        raise InvalidRequest(
            f"output_format {name[:60]!r} has {kbits[:9]} kbit/s; {codec}_{rate} has {known}",
            param="output_format",
        )
    return output


def read_speed(voice_settings: Fields | None) -> float | None:
    return (
        voice_settings.number("speed", SLOWEST, FASTEST, may_be_text=True)
        if voice_settings
        else None
    )


def read_reading(fields: Fields) -> ReadingOptions:
    """The service obeys `<break>` in any text; `apply_text_normalization` may leave its numbers to
    the voice."""
    applied = fields.choice("apply_text_normalization", ("auto", "on", "off"))
    return ReadingOptions(normalize=applied != "off", tags=True)


def is_for(path: str, headers: Mapping[str, str]) -> bool:
    """Whether a request is for ElevenLabs' API: OpenAI's has `/v1/models` too."""
    return path.startswith(_PATHS) or (path == "/v1/models" and KEY_HEADER in headers)


def error_body(problem: WireError) -> dict[str, object]:
    """https://elevenlabs.io/docs/developers/resources/errors"""
    code = error_code(problem)
    return {
        "detail": {
            "type": _TYPES.get(problem.http_status, "internal_error"),
            "code": code,
            "status": code,
            "message": problem.message,
            "param": problem.param,
        }
    }


def error_code(problem: WireError) -> str:
    """ElevenLabs' own code if it has one."""
    return _CODES.get(problem.code, problem.code)


@dataclass(frozen=True)
class Character:
    text: str
    start_ms: int
    end_ms: int


def spell(words: Sequence[Word], position: int = 0, start_ms: int = 0) -> list[Character]:
    """The characters of words, each with an equal part of its word's time. Between two words is one
    space; `position` and `start_ms` are where the previous words ended, and a space ends them."""
    characters: list[Character] = []
    for word in words:
        if word.text_start > position and position > 0:
            characters.append(Character(" ", start_ms, max(start_ms, word.start_ms)))
        length = word.end_ms - word.start_ms
        places = [word.start_ms + length * i // len(word.text) for i in range(len(word.text) + 1)]
        characters += map(Character, word.text, places, places[1:])
        position, start_ms = word.text_end, word.end_ms
    return characters


def _key_in(first: Fields) -> str:
    """The key, or empty if there is none."""
    key = first.string("xi-api-key") or first.string("xi_api_key")
    return key or (first.string("authorization") or "").removeprefix("Bearer ").strip()


@dataclass
class Stream:
    """A context that was begun."""

    opening: Opening
    has_text: bool = False
    is_unflushed: bool = False
    is_ended: bool = False
    spelled_to: int = 0
    """In characters of its text."""
    spelled_to_ms: int = 0


class ElevenLabsSocket(Dialect):
    name = "elevenlabs"
    takes_key = True

    def __init__(self, handshake: Handshake) -> None:
        self._handshake, self._show_key = handshake, handshake.show_key
        self._streams: dict[str, Stream] = {}
        self._beginning: dict[str, Stream] = {}
        """The context that the last message may have begun."""
        self._is_served = False
        # Read the address only after the key, because a refusal lists the voices.
        if self._show_key is None:
            self._read_address()

    def _read_address(self) -> None:
        """Raises `InvalidRequest` if the address requests something that does not exist."""
        handshake = self._handshake
        query = parse_query(handshake.query)
        output = read_output(query.string("output_format") or DEFAULT_OUTPUT)
        if not AUDIO_FORMATS[output.format].can_be_cut:
            raise InvalidRequest(
                f"{output.format} cannot be streamed in pieces; pcm_{output.sample_rate} can",
                param="output_format",
            )
        auto_mode = query.flag("auto_mode") or False
        self.idle_timeout_s = query.number("inactivity_timeout", 1, 3600) or _INACTIVITY_S
        self._settings = ContextSettings(
            handshake.find_voice(handshake.path.get("voice")),
            output,
            clause_pause_s=_WHOLE_PHRASES_S if auto_mode else None,
            manner=Manner(
                speed=handshake.defaults.speed,
                seed=query.integer("seed", 0, 2**32 - 1),
                # The service always sends word timestamps, and clients make their transcripts from
                # them.
                word_times=query.flag("sync_alignment") is not False,
            ),
            reading=read_reading(query),
        )
        self._auto_mode = auto_mode
        self._is_served = True

    @property
    def kept_bytes(self) -> int:
        return sum(_STREAM_BYTES + sys.getsizeof(name) for name in self._streams)

    @property
    def is_for_stranger(self) -> bool:
        return self._show_key is not None

    def receive(self, message: str) -> Sequence[Action]:
        context_id, self._beginning = None, {}
        if self._show_key is None and not self._is_served:
            return []  # its address was refused, and the connection is being closed
        try:
            fields = Fields(self._parse(message))
            context_id = self._context_id(fields)
            return self._read(fields, context_id)
        except WireError as problem:
            return [Refuse(problem, context_id)]

    def _context_id(self, fields: Fields) -> str:
        raise NotImplementedError

    def _read(self, fields: Fields, context_id: str) -> list[Action]:
        raise NotImplementedError

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Begun(context_id):
                self._streams[context_id] = self._beginning.pop(context_id)
            case Audio(context_id, data=data):
                return [self._audio(context_id, base64.b64encode(data).decode(), None)]
            case Words(context_id, words):
                alignment = self._align(context_id, words)
                return [self._audio(context_id, None, alignment)] if alignment else []
            case Done(context_id):
                self._streams.pop(context_id, None)
                return [self._final(context_id)]
            case Problem(error, context_id) if not self._is_silence(event):
                body = {
                    "message": error.message,
                    "error": error_code(error),
                    "code": error.close_code,
                }
                return [json.dumps({**body, **self._place(context_id)})]
        return []

    def _is_silence(self, problem: Problem) -> bool:
        """Whether the problem is that a context had only white space, which is not an error in this
        API."""
        stream = self._streams.get(problem.context_id or "")
        return isinstance(problem.error, NoSpeech) and stream is not None and not stream.has_text

    def _parse(self, message: str) -> dict[str, Any]:
        """Parse a message. The first must have the key if none was sent before. Raises
        `InvalidRequest`; for a client without a key, only `Unauthorized`."""
        if self._show_key is None:
            return parse_object(message)
        try:
            body = parse_object(message)
            key = _key_in(Fields(body))
        except InvalidRequest:
            body, key = {}, ""
        if not key:
            raise Unauthorized(f"no API key was sent; {_HOW_TO_SEND}")
        try:
            self._show_key(key)
        except Unauthorized as problem:
            problem.message += f"; {_HOW_TO_SEND}"
            raise
        self._show_key = None
        self._read_address()
        return body

    def _find(self, context_id: str) -> Stream | None:
        return self._streams.get(context_id) or self._beginning.get(context_id)

    def _append(self, fields: Fields, context_id: str, text: str) -> list[Action]:
        stream = self._find(context_id)
        if stream is None:
            stream = Stream(Opening(self._read_settings(fields)))
            self._beginning[context_id] = stream
        has_text = bool(text.strip())
        stream.has_text = stream.has_text or has_text
        stream.is_unflushed = stream.is_unflushed or has_text
        if self._auto_mode and not text[-1].isspace():
            text += " "  # whole phrases: "four." and "One," are two words
        return [Append(context_id, text, stream.opening)]

    def _flush(self, context_id: str) -> list[Action]:
        """ElevenLabs ignores a flush without text."""
        stream = self._find(context_id)
        if stream is None or not stream.is_unflushed or stream.is_ended:
            return []
        stream.is_unflushed = False
        return [Flush(context_id)]

    def _end(self, context_id: str) -> list[Action]:
        stream = self._find(context_id)
        if stream is None or stream.is_ended:
            return []
        stream.is_ended = True
        return [End(context_id)]

    def _read_settings(self, fields: Fields) -> ContextSettings:
        settings = self._settings
        speed = read_speed(fields.object("voice_settings"))
        if speed is not None:
            settings = replace(settings, manner=replace(settings.manner, speed=speed))
        config = fields.object("generation_config") or fields.object("generator_config")
        schedule = config.numbers("chunk_length_schedule", 1, 10_000) if config else None
        if schedule and not self._auto_mode:
            pause_s = schedule[0] / _WRITTEN_CHARACTERS_A_SECOND
            settings = replace(settings, clause_pause_s=pause_s)
        return settings

    def _align(self, context_id: str, words: Sequence[Word]) -> dict[str, Any] | None:
        """Clients add the times of a message to the end of the message before."""
        stream = self._streams.get(context_id)
        if stream is None or not words:
            return None
        base_ms = stream.spelled_to_ms
        spelled = spell(words, stream.spelled_to, base_ms)
        # Clients take a word as complete when a space follows.
        spelled.append(Character(" ", words[-1].end_ms, words[-1].end_ms))
        # The next words do not begin with another space.
        stream.spelled_to, stream.spelled_to_ms = 0, words[-1].end_ms
        return {
            "chars": [character.text for character in spelled],
            "charStartTimesMs": [character.start_ms - base_ms for character in spelled],
            "charDurationsMs": [character.end_ms - character.start_ms for character in spelled],
        }

    def _audio(self, context_id: str, audio: str | None, alignment: Any) -> str:
        body = {
            "audio": audio,
            "isFinal": None,
            "normalizedAlignment": alignment,
            "alignment": alignment,
        }
        return json.dumps({**body, **self._place(context_id)})

    def _final(self, context_id: str) -> str:
        body = {"audio": None, "isFinal": True, "normalizedAlignment": None, "alignment": None}
        return json.dumps({**body, **self._place(context_id)})

    def _place(self, context_id: str | None) -> dict[str, str]:
        raise NotImplementedError


class StreamInput(ElevenLabsSocket):
    """One text. An empty one ends it, and the connection ends when it is spoken."""

    def close_code(self, problem: Problem) -> int | None:
        """An error is the last message: that is where the service's own package looks for it."""
        if self._is_silence(problem) or problem.error.code == "text_after_end":
            return None
        return problem.error.close_code

    def _context_id(self, fields: Fields) -> str:
        return ONLY_CONTEXT

    def _read(self, fields: Fields, context_id: str) -> list[Action]:
        stream, text = self._streams.get(context_id), fields.string("text")
        is_flush = fields.flag("flush") or False
        if stream is not None and stream.is_ended:
            if text:
                raise InvalidRequest(
                    "the text was ended with an empty one; connect again for another",
                    code="text_after_end",
                    param="text",
                )
            return []
        if text is None and not is_flush:
            raise no_text('a message needs a text; {"text": ""} is the end')
        if text == "" and not is_flush:
            if stream is None:
                return [*self._append(fields, context_id, " "), *self._end(context_id), Close()]
            return [*self._end(context_id), Close()]
        actions = self._append(fields, context_id, text) if text else []
        return [*actions, *(self._flush(context_id) if is_flush else [])]

    def _place(self, context_id: str | None) -> dict[str, str]:
        return {}


class MultiStreamInput(ElevenLabsSocket):
    """Several contexts. Closing one that is not open does nothing, and an empty text keeps a
    context alive."""

    def close_code(self, problem: Problem) -> int | None:
        return None if self._is_served else problem.error.close_code

    def _context_id(self, fields: Fields) -> str:
        return fields.string("context_id") or fields.string("contextId") or ONLY_CONTEXT

    def _read(self, fields: Fields, context_id: str) -> list[Action]:
        if fields.flag("close_socket"):
            ends = [action for name in list(self._streams) for action in self._end(name)]
            return [*ends, Close()]
        if fields.flag("close_context"):
            return self._end(context_id)
        text = fields.string("text")
        actions = self._append(fields, context_id, text) if text else []
        return [*actions, *(self._flush(context_id) if fields.flag("flush") else [])]

    def _place(self, context_id: str | None) -> dict[str, str]:
        return {} if context_id is None else {"contextId": context_id}
