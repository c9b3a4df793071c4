"""The basic endpoint, `/`, without I/O: messages in → turns out, results in → messages out.

`Connection` is one client's conversation. A turn answers one message. Turns are answered in order
of arrival, so a client that sends several messages can match the answers; only a cancel is answered
at once. docs/protocol.md describes the wire protocol.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import COMMON_FORMATS
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, OverCapacity, WireError
from tts_provider.server.dialects.dialogue import (
    FindVoice,
    TurnRequest,
    make_turns,
    read_pause_s,
    read_turns,
)
from tts_provider.server.dialects.fields import (
    MAX_SEED,
    Fields,
    no_text,
    parse_object,
    read_said,
    read_text,
)
from tts_provider.server.service.defaults import Defaults
from tts_provider.server.service.service import Said
from tts_provider.server.service.word_facts import words_facts
from tts_provider.speech.dialogue import PAUSE_MS, Dialogue
from tts_provider.speech.engine import Manner, Utterance, Word
from tts_provider.speech.reading import AS_WRITTEN, ReadingOptions

LOADING_MESSAGE = "TTS model is still loading, request will be processed when ready"
SUCCESS_MESSAGE = "Audio generated successfully"

# More than the model's prompt has room for.
_MAX_CONTEXT = 16
_TURN_BYTES = 1024  # besides its texts and audio


@dataclass(frozen=True)
class SpeechRequest:
    text: str
    """Empty if there are `turns`."""
    speaker: int | None
    voice: str | None
    stream: bool
    output: Output
    manner: Manner
    request_id: str | None
    context: tuple[Said, ...] = ()
    """What was said before, oldest first."""
    reading: ReadingOptions = AS_WRITTEN
    turns: tuple[TurnRequest, ...] = ()
    pause_s: float = PAUSE_MS / 1000
    """The silence between two turns."""

    def asked(self, find_voice: FindVoice) -> Utterance | Dialogue:
        """Raises `InvalidRequest` if there is no such voice."""
        if self.turns:
            return Dialogue(make_turns(self.turns, find_voice), self.pause_s)
        return Utterance(self.text, find_voice(self.voice, self.speaker), self.manner)


@dataclass(frozen=True)
class InfoRequest:
    request_id: str | None


@dataclass(frozen=True)
class Refusal:
    """A message that cannot be served; its turn answers with the error."""

    error: WireError
    request_id: str | None


@dataclass(frozen=True)
class CancelRequest:
    request_id: str


Turn = SpeechRequest | InfoRequest | Refusal


class Connection:
    """The turns of one client: those that wait, and the one that is being answered."""

    def __init__(self, limits: Limits, defaults: Defaults | None = None) -> None:
        self._limits = limits
        self._defaults = defaults or Defaults()
        self.waiting: deque[Turn] = deque()
        self._active: Turn | None = None

    def receive(self, message: str) -> CancelRequest | None:
        """Accept one text message. A turn joins the queue; a cancel is returned instead.

        Raises `InvalidRequest` if it is too big for a message without `context`, and `OverCapacity`
        if too much waits; the connection is over then.
        """
        if len(message) > self._limits.max_wire_bytes and '"context"' not in message:
            raise InvalidRequest("the message is too big", code="message_too_big")
        request = _read(message, self._limits, self._defaults)
        if isinstance(request, CancelRequest):
            return request
        if len(self.waiting) >= self._limits.max_pending_requests:
            # The queue is full, so messages after the refusal cannot be kept in order either.
            raise OverCapacity(
                f"this connection has {len(self.waiting)} requests waiting, the limit; "
                "wait for answers before sending more",
                retry_after_ms=1000,
            )
        waiting_bytes, limit = sum(map(_size_bytes, self.waiting)), self._limits.max_waiting_bytes
        if waiting_bytes + _size_bytes(request) > limit:
            raise OverCapacity(
                f"{waiting_bytes} bytes of requests wait on this connection; the limit is {limit}; "
                "wait for answers before sending more",
                code="too_much_waiting",
                retry_after_ms=1000,
            )
        self.waiting.append(request)
        return None

    def next_turn(self) -> Turn | None:
        """Begin the next turn; None if there is none."""
        assert self._active is None
        if self.waiting:
            self._active = self.waiting.popleft()
        return self._active

    def finish_turn(self) -> None:
        """The turn has its answer: from now on it cannot be cancelled."""
        self._active = None

    def cancel(self, cancel: CancelRequest) -> tuple[list[str], bool]:
        """Drop the waiting turns of this id. Returns the messages to send at once, and whether the
        active turn has the id too; that turn must be stopped before its acknowledgement is sent."""
        dropped = [turn for turn in self.waiting if turn.request_id == cancel.request_id]
        self.waiting = deque(turn for turn in self.waiting if turn not in dropped)
        stop_active = (
            isinstance(self._active, SpeechRequest) and self._active.request_id == cancel.request_id
        )
        if stop_active:
            return [], True
        if dropped:
            return [cancelled(cancel.request_id)], False
        return [
            error(
                InvalidRequest(
                    f"no request {cancel.request_id!r} is waiting or being spoken here",
                    code="unknown_request",
                    param="request_id",
                ),
                cancel.request_id,
            )
        ], False


def _size_bytes(turn: Turn) -> int:
    """How much memory a turn holds of its client's data."""
    strings, more = [turn.request_id or ""], 0
    if isinstance(turn, SpeechRequest):
        strings += [turn.text, turn.voice or "", *(said.text for said in turn.context)]
        strings += [string for each in turn.turns for string in (each.text, each.voice or "")]
        more = (
            _TURN_BYTES * len(turn.turns)
            + turn.reading.lexicon.size_bytes
            + sum(len(said.audio) for said in turn.context)
        )
    return _TURN_BYTES + more + sum(map(sys.getsizeof, strings))


# What the server says


def loading() -> str:
    return _encode({"status": "loading", "message": LOADING_MESSAGE}, None)


def streaming(request: SpeechRequest) -> str:
    return _encode(
        {
            "status": "streaming",
            "format": request.output.format,
            "sample_rate": request.output.sample_rate,
        },
        request.request_id,
    )


def words(spoken: Sequence[Word], request: SpeechRequest) -> str:
    body = {"status": "words", **words_facts(spoken)}
    if request.turns:
        body |= {"turn": spoken[0].turn, "voice": spoken[0].voice}
    return _encode(body, request.request_id)


def success(
    request: SpeechRequest,
    length_bytes: int,
    duration_ms: int,
    spoken: Sequence[Word] = (),
) -> str:
    """A whole reply has exactly five keys, unless the request asked for word timestamps. The end of
    a stream also has its duration; its word timestamps were sent before."""
    body: dict[str, Any] = {
        "status": "success",
        "message": SUCCESS_MESSAGE,
        "format": request.output.format,
        "sample_rate": request.output.sample_rate,
        "length_bytes": length_bytes,
    }
    if request.stream:
        body["duration_ms"] = duration_ms
    elif request.manner.word_times:
        body |= words_facts(spoken)
    return _encode(body, request.request_id)


def info(facts: Mapping[str, Any], request_id: str | None) -> str:
    return _encode({"status": "success", **facts}, request_id)


def cancelled(request_id: str | None) -> str:
    return _encode({"status": "cancelled"}, request_id)


def error(problem: WireError, request_id: str | None = None) -> str:
    body: dict[str, Any] = {"status": "error", "message": problem.message, "code": problem.code}
    if isinstance(problem, OverCapacity):
        body["retry_after_ms"] = problem.retry_after_ms
    return _encode(body, request_id)


def _encode(body: dict[str, Any], request_id: str | None) -> str:
    if request_id is not None:
        body["request_id"] = request_id
    return json.dumps(body)  # ASCII: a lone surrogate in a request_id survives the echo


# What the client says


def _read(message: str, limits: Limits, defaults: Defaults) -> Turn | CancelRequest:
    request_id = None
    try:
        fields = parse_object(message)
        request_id = Fields(fields).string("request_id")
        return _read_command(Fields(fields), request_id, limits, defaults)
    except InvalidRequest as problem:
        return Refusal(problem, request_id)


def _read_command(
    fields: Fields, request_id: str | None, limits: Limits, defaults: Defaults
) -> Turn | CancelRequest:
    command = fields.choice("command", ("info", "cancel"))
    if command == "info":
        return InfoRequest(request_id)
    if command == "cancel":
        if request_id is None:
            raise InvalidRequest(
                "'cancel' needs the request_id of the request to stop", param="request_id"
            )
        return CancelRequest(request_id)
    return _read_speech(fields, request_id, limits, defaults)


def _read_speech(
    fields: Fields, request_id: str | None, limits: Limits, defaults: Defaults
) -> SpeechRequest:
    turns = fields.objects("turns")
    if fields.has("turns") and not turns:
        raise no_text('turns is empty; send at least one turn, like {"text": "Hello"}', "turns")
    text = "" if turns else read_text(fields, limits, "No text provided")
    stream = fields.boolean("stream") or False
    output = defaults.output(
        "basic",
        fields.choice("format", COMMON_FORMATS),
        fields.integer_choice("sample_rate", SAMPLE_RATES),
        own="pcm" if stream else "wav",
    )
    output.check()
    manner = Manner(
        temperature=fields.number("temperature", 0.0, 2.0),
        top_k=fields.integer("top_k", 1, 2048),
        seed=fields.integer("seed", 0, MAX_SEED),
        speed=fields.number("speed", SLOWEST, FASTEST, may_be_text=True) or defaults.speed,
        max_audio_ms=fields.integer("max_audio_length_ms", 1, None),
        word_times=fields.boolean("timestamps") or False,
    )
    return SpeechRequest(
        text=text,
        speaker=fields.integer("speaker", 0, None, may_be_text=True),
        voice=fields.string("voice"),
        stream=stream,
        output=output,
        manner=manner,
        request_id=request_id,
        context=tuple(
            read_said(entry, limits) for entry in fields.objects("context", _MAX_CONTEXT)
        ),
        reading=fields.reading() or AS_WRITTEN,
        turns=read_turns(turns, fields, manner, limits),
        pause_s=read_pause_s(fields),
    )
