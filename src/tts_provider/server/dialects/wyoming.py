"""Wyoming, as Home Assistant uses it: one request after the other, without keys.

https://github.com/OHF-Voice/wyoming#text-to-speech. On the wire an event is a line of JSON,
followed by the data and payload that `data_length` and `payload_length` announce;
`connections/tcp.py` reads the whole event.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tts_provider import __version__
from tts_provider.errors import InvalidRequest, OverCapacity, WireError
from tts_provider.server.dialects.dialect import (
    Action,
    Answer,
    Append,
    Audio,
    Cancelled,
    ContextSettings,
    Dialect,
    Done,
    End,
    Event,
    Greeting,
    Handshake,
    Opening,
    Problem,
    Refuse,
)
from tts_provider.server.dialects.fields import Fields, no_text, parse_object
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Voice

_ATTRIBUTION = {"name": "tts-provider", "url": "https://pypi.org/project/tts-provider/"}
_REQUEST_BYTES = 512
_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


@dataclass
class _Request:
    """A text to speak, whole or in chunks."""

    id: str
    opening: Opening
    is_stream: bool
    waiting: str | None = None
    """The text that arrived while other requests are spoken."""
    is_finished: bool = False
    has_text: bool = False
    has_audio: bool = False


class WyomingDialect(Dialect):
    name = "wyoming"

    def __init__(self, handshake: Handshake) -> None:
        self._limits = handshake.limits
        self._find_voice = handshake.find_voice
        self._manner = Manner(speed=handshake.defaults.speed)
        self._engine, self._voices = "", list[Voice]()
        self._requests: deque[_Request] = deque()  # the first is being spoken
        self._stream: _Request | None = None  # still being written
        self._count = 0

    @property
    def kept_bytes(self) -> int:
        texts = (request.waiting or "" for request in self._requests)
        return sum(_REQUEST_BYTES + sys.getsizeof(text) for text in texts)

    def receive(self, message: str) -> Sequence[Action]:
        try:
            event = Fields(parse_object(message))
            data = event.object("data") or Fields({})
            return self._read(event.string("type") or "", data)
        except WireError as problem:
            return [Refuse(problem)]

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Greeting(_, engine, voices):
                self._engine, self._voices = engine, list(voices)
            case Audio(start_ms=start_ms, data=data):
                request, place = self._requests[0], {**_FORMAT, "timestamp": start_ms}
                begin = [] if request.has_audio else [encode("audio-start", place)]
                request.has_audio = True
                return [*begin, encode("audio-chunk", place, data)]
            case Done(audio_ms=end_ms) | Cancelled(audio_ms=end_ms):
                end = encode("audio-stop", {"timestamp": end_ms})
                stopped = [encode("synthesize-stopped", {})] if self._requests[0].is_stream else []
                return [end, *stopped]
            case Problem(error):
                return [encode("error", {"text": error.message, "code": error.code})]
        return []

    def follow(self, event: Event) -> Sequence[Action]:
        """After one text is spoken, begin the next."""
        if not isinstance(event, (Done, Cancelled)):
            return []
        self._requests.popleft()
        return self._begin()

    def close_code(self, problem: Problem) -> int | None:
        """Home Assistant ignores an `error`: only the end of the connection tells it not to
        wait."""
        return problem.error.close_code

    def _read(self, kind: str, data: Fields) -> list[Action]:
        match kind:
            case "describe":
                return [Answer([encode("info", {"tts": [self._program()]})])]
            case "ping":
                return [Answer([encode("pong", {"text": data.string("text")})])]
            case "synthesize" if self._stream is not None:
                return []  # the whole text again, for servers that do not accept chunks
            case "synthesize":
                request = self._add(data, is_stream=False)
                return [*self._write(request, data), *self._finish(request)]
            case "synthesize-start":
                self._stream = self._add(data, is_stream=True)
                return []
            case "synthesize-chunk":
                return self._write(self._started(kind), data)
            case "synthesize-stop":
                request, self._stream = self._started(kind), None
                return self._finish(request)
        return []  # as the protocol requires for unknown events

    def _started(self, kind: str) -> _Request:
        if self._stream is None:
            raise InvalidRequest(
                f"{kind} came without a synthesize-start before it", code="unknown_context"
            )
        return self._stream

    def _add(self, data: Fields, *, is_stream: bool) -> _Request:
        if self._stream is not None:
            raise InvalidRequest(
                "synthesize-start came before the synthesize-stop of the text before",
                code="unknown_context",
            )
        limit = self._limits.max_pending_requests
        if len(self._requests) > limit:
            raise OverCapacity(
                f"this connection has {limit} texts waiting, the limit", retry_after_ms=1000
            )
        voice = data.object("voice") or Fields({})
        settings = ContextSettings(self._find_voice(voice.string("name")), manner=self._manner)
        self._count += 1
        request = _Request(str(self._count), Opening(settings), is_stream)
        self._requests.append(request)
        return request

    def _write(self, request: _Request, data: Fields) -> list[Action]:
        text = data.string("text")
        if text is None:
            raise no_text("there is no text to speak")
        request.has_text = True
        if request is self._requests[0]:
            return [Append(request.id, text, request.opening)]
        request.waiting, limit = (request.waiting or "") + text, self._limits.max_text_characters
        if len(request.waiting) > limit:
            raise InvalidRequest(
                f"a text that waits for the one before has {len(request.waiting)} characters; "
                f"the limit is {limit}",
                code="text_too_long",
                param="text",
            )
        return []

    def _finish(self, request: _Request) -> list[Action]:
        request.is_finished = True
        if request is not self._requests[0]:
            return []
        begin = [] if request.has_text else [Append(request.id, "", request.opening)]
        return [*begin, End(request.id)]

    def _begin(self) -> list[Action]:
        """The actions of the first request that arrived while it waited."""
        if not self._requests:
            return []
        request = self._requests[0]
        text, request.waiting = request.waiting, None
        begin = [] if text is None else [Append(request.id, text, request.opening)]
        return [*begin, *(self._finish(request) if request.is_finished else [])]

    def _program(self) -> dict[str, Any]:
        voices = [
            {
                **_artifact(voice.id, voice.name),
                "languages": [voice.language],
                "speakers": None,
            }
            for voice in self._voices
        ]
        about = f"Speech by {self._engine}"
        program = _artifact("tts-provider", about)
        return {**program, "voices": voices, "supports_synthesize_streaming": True}


def _artifact(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "attribution": _ATTRIBUTION,
        "installed": True,
        "version": __version__,
    }


def encode(kind: str, data: dict[str, Any], payload: bytes = b"") -> bytes:
    """Encode an event for the wire. Its data is in the line, where every version reads it."""
    header: dict[str, Any] = {"type": kind, "data": data}
    if payload:
        header["payload_length"] = len(payload)
    return json.dumps(header).encode() + b"\n" + payload
