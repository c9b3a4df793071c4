"""One connection's messages through the native dialect and its contexts, as the pump takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.dialects.contexts import Contexts
from tts_provider.server.dialects.dialect import (
    Action,
    Append,
    Begun,
    Dialect,
    Handshake,
    Refuse,
    Update,
)
from tts_provider.server.dialects.native import NativeDialect
from tts_provider.speech.engine import Voice
from tts_provider.speech.reading import Cast, Passage, Reader, ReadingOptions

VOICES = {name: Voice(name, name, "unknown", "test") for name in ("ann", "bob")}


def find_voice(name: str | None) -> Voice:
    if name is not None and name not in VOICES:
        raise InvalidRequest(f"there is no voice {name!r}", code="unknown_voice", param="voice")
    return VOICES[name or "ann"]


def new_reader(_voice: Voice, reading: ReadingOptions) -> Reader:
    return Reader(reading, Cast(find_voice, lambda other: reading))


def tell_begun(dialect: Dialect, actions: Sequence[Action], begun: set[str]) -> None:
    """As the pump does where the first text of a context was taken; `begun` has those that were."""
    for action in actions:
        if isinstance(action, Append) and action.context_id not in begun:
            begun.add(action.context_id)
            dialect.write(Begun(action.context_id))


class Conversation:
    def __init__(self, **limits: int) -> None:
        self.dialect = NativeDialect(Handshake(Limits(**limits), find_voice))
        self.contexts = Contexts(Limits(**limits), new_reader)

    def tell(self, kind: str, context_id: str | None = "c", **fields: Any) -> list[Any]:
        place = {} if context_id is None else {"context_id": context_id}
        return self.receive(json.dumps({"type": kind, **place, **fields}))

    def receive(self, message: str) -> list[Any]:
        """What its timelines are to do: passages as they were written, and actions."""
        outcome: list[Any] = []
        for action in self.dialect.receive(message):
            if isinstance(action, (Refuse, Update)):
                outcome.append(action)
                continue
            try:
                items = self.contexts.take(action)
            except WireError as problem:
                return [*outcome, Refuse(problem, action.context_id)]
            outcome += [item.text if isinstance(item, Passage) else item for item in items]
        return outcome
