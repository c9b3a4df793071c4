"""A turn of a speech session, and what is told of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tts_provider.client.errors import TTSClientError
from tts_provider.client.words import SpokenWord


@dataclass(frozen=True)
class SpokenText:
    """Which text a stretch of a turn's timeline speaks."""

    text: str
    start_ms: int
    end_ms: int
    voice: str = ""
    """Who said it, where that is not the turn's first voice only."""


@dataclass(frozen=True)
class Interruption:
    """What of a turn's text was heard, and what not: for the history of a language model."""

    played_ms: int
    heard: str
    """As it was appended, up to the word that was playing."""
    unheard: str


@dataclass(frozen=True)
class ConnectionLoss:
    """A connection of a session that reconnects, which broke, and what went with it."""

    error: TTSClientError
    """Why."""
    turns_forgotten: int
    """How many turns the engine had heard of and knows no more: the conversation begins again."""
    is_turn_lost: bool
    """A turn was being spoken; who iterates over it hears why it ended."""


@dataclass(eq=False)
class Turn:
    """What a session keeps of what is said in one go."""

    context_id: str
    continues: str | None = None
    """The turn before, whose conversation goes on."""
    has_begun: bool = False
    messages: list[dict[str, Any]] | None = field(default_factory=list)
    """All that was told of it; None when the server has answered."""
    is_told_again: bool = False
    """Over another connection than the one it began on."""
    forgotten: TTSClientError | None = None
    """Why the server knows nothing of it any more."""
    arrived: asyncio.Queue[bytes | TTSClientError | None] = field(default_factory=asyncio.Queue)
    ended: bool = False
    """No more text is to come."""
    over: bool = False
    """No more audio is to come."""
    heard: bool = False
    """All of it was taken, or nobody wants it."""
    consumed: bool = False
    """Somebody has iterated over it to its end."""
    segments: list[SpokenText] = field(default_factory=list)
    words: list[SpokenWord] = field(default_factory=list)
    failure: TTSClientError | None = None

    def finish(self, failure: TTSClientError | None = None) -> None:
        if not self.over:
            self.over = True
            self.arrived.put_nowait(failure)
