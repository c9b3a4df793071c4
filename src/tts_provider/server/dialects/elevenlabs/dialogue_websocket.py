"""ElevenLabs' WebSockets for several voices: one dialogue at `/v1/text-to-dialogue/stream-input`,
contexts at `…/multi-stream-input`.

https://elevenlabs.io/docs/api-reference/text-to-dialogue/v-1-text-to-dialogue-multi-stream-input
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tts_provider.errors import InvalidRequest, part_named
from tts_provider.server.dialects.dialect import (
    Action,
    Answer,
    Audio,
    ChangeVoice,
    Close,
    Done,
    Event,
    Flushed,
    Handshake,
    Opening,
    Problem,
    Words,
)
from tts_provider.server.dialects.elevenlabs.websocket import (
    ONLY_CONTEXT,
    ElevenLabsSocket,
    Stream,
    spell,
)
from tts_provider.server.dialects.fields import Fields, no_text, parse_query
from tts_provider.speech.engine import Voice, Word

_VOICE_BYTES = 512
_MOST_VOICES = 64
_NOTHING = Fields({})  # a context that has begun accepts no settings


@dataclass(frozen=True)
class _Input:
    text: str
    voice: Voice
    is_new_turn: bool
    """Whether the text before it is a finished turn."""


def _read_input(fields: Fields, cast: Mapping[str, Voice]) -> _Input:
    """Raises `InvalidRequest`."""
    text, name = fields.string("text"), fields.string("voice_id")
    if text is None:
        raise no_text("an input needs a text")
    if name is None or name not in cast:
        known = ", ".join(cast)
        raise InvalidRequest(
            f"voice_id must be one of the context's voices: {known[:200]}", param="voice_id"
        )
    return _Input(text, cast[name], fields.flag("new_turn") or False)


class _Dialogue(ElevenLabsSocket):
    """A context whose voices are known before the first text."""

    def __init__(self, handshake: Handshake) -> None:
        self._casts: dict[str, Mapping[str, Voice]] = {}
        """By context: its voices, by the names that the client gave them."""
        self._sent_ms: dict[str, int] = {}
        super().__init__(handshake)

    def _read_address(self) -> None:
        super()._read_address()
        query, settings = parse_query(self._handshake.query), self._settings
        # At this endpoint the service sends word timestamps on request.
        manner = replace(settings.manner, word_times=query.flag("sync_alignment") or False)
        self._settings = replace(settings, manner=manner)

    @property
    def kept_bytes(self) -> int:
        casts = self._casts.items()
        own = sum(sys.getsizeof(name) + _VOICE_BYTES * len(cast) for name, cast in casts)
        return super().kept_bytes + own

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Audio(context_id, end_ms=end_ms, data=data):
                self._sent_ms[context_id] = end_ms
                return [self._tell(context_id, audio=base64.b64encode(data).decode())]
            case Words(context_id, words):
                return [self._tell(context_id, alignment=self._spelled(context_id, words))]
            case Flushed(context_id):
                return [self._tell(context_id, is_final_audio_for_turn=True)]
            case Done(context_id):
                for kept in (self._casts, self._sent_ms, self._streams):
                    kept.pop(context_id, None)
                return [self._tell(context_id, is_final=True)]
        return super().write(event)

    def _read(self, fields: Fields, context_id: str) -> list[Action]:
        if fields.flag("close_socket"):
            names = {**self._casts, **self._streams}
            return [*(action for name in names for action in self._close(name)), Close()]
        if fields.flag("close_context"):
            return self._close(context_id)
        inputs = fields.objects("inputs", self._handshake.limits.max_turns)
        cast = self._casts.get(context_id)
        if cast is None and (inputs or fields.has("voices")):
            cast = self._read_cast(fields)
        said, is_flush = list[_Input](), fields.flag("flush") or False
        for number, each in enumerate(inputs):
            with part_named(f"inputs[{number}]"):
                said.append(_read_input(each, cast or {}))
        # All checks are done before this line, so that a refused message leaves nothing behind.
        if cast is not None:
            self._casts[context_id] = cast
        actions = [action for each in said for action in self._say(each, context_id)]
        return [*actions, *(self._flush(context_id) if is_flush else [])]

    def _read_cast(self, fields: Fields) -> Mapping[str, Voice]:
        names = fields.names("voices")
        if not names or len(names) > _MOST_VOICES:
            raise InvalidRequest(
                f"a context's first message needs voices: from 1 to {_MOST_VOICES} ids",
                param="voices",
            )
        return {name: self._handshake.find_voice(name) for name in names}

    def _say(self, said: _Input, context_id: str) -> list[Action]:
        ended = self._flush(context_id) if said.is_new_turn else []
        if not said.text:
            return ended
        if self._find(context_id) is None:
            opening = Opening(replace(self._settings, voice=said.voice))
            self._beginning[context_id] = Stream(opening)
        said_now = self._append(_NOTHING, context_id, said.text)
        return [*ended, ChangeVoice(context_id, said.voice), *said_now]

    def _close(self, context_id: str) -> list[Action]:
        if self._find(context_id) is None and self._casts.pop(context_id, None) is not None:
            return [Answer([self._tell(context_id, is_final=True)])]  # nobody said anything
        return self._end(context_id)

    def _spelled(self, context_id: str, words: Sequence[Word]) -> dict[str, Any]:
        """Its times count from the end of the audio that was sent before. That audio contains the
        words, so the times are below 0."""
        stream, now_ms = self._streams[context_id], self._sent_ms.get(context_id, 0)
        spelled = spell(words, 0, stream.spelled_to_ms)
        stream.spelled_to_ms = words[-1].end_ms
        return {
            "chars": [*(character.text for character in spelled), " "],
            "char_start_times_ms": [
                *(character.start_ms - now_ms for character in spelled),
                words[-1].end_ms - now_ms,
            ],
            "char_durations_ms": [*(each.end_ms - each.start_ms for each in spelled), 0],
        }

    def _tell(self, context_id: str, **body: Any) -> str:
        return json.dumps({**body, **self._place(context_id)})


class DialogueStreamInput(_Dialogue):
    """One dialogue; the connection ends with it."""

    def close_code(self, problem: Problem) -> int | None:
        return None if self._is_silence(problem) else problem.error.close_code

    def _context_id(self, fields: Fields) -> str:
        return ONLY_CONTEXT

    def _place(self, context_id: str | None) -> dict[str, str]:
        return {}


class DialogueMultiStreamInput(_Dialogue):
    def close_code(self, problem: Problem) -> int | None:
        return None if self._is_served else problem.error.close_code

    def _context_id(self, fields: Fields) -> str:
        context_id = fields.string("context_id")
        if not context_id and not fields.flag("close_socket"):
            raise InvalidRequest("a message needs a context_id", param="context_id")
        return context_id or ONLY_CONTEXT

    def _place(self, context_id: str | None) -> dict[str, str]:
        return {} if context_id is None else {"context_id": context_id}
