"""When a word that somebody wrote is spoken, as every endpoint tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tts_provider.speech.engine import SAMPLE_RATE
from tts_provider.speech.timing.words import TimedWord


@dataclass(frozen=True)
class Word:
    """One word, on a timeline in milliseconds."""

    text: str
    """As it was written: `$5` is one word."""
    start_ms: int
    end_ms: int
    start: int
    """Its place in the context's text, in characters, from `start` to before `end`."""
    end: int

    @classmethod
    def of(cls, word: TimedWord) -> Word:
        start_ms, end_ms = (at * 1000 // SAMPLE_RATE for at in (word.start, word.end))
        return cls(word.text, start_ms, end_ms, word.text_start, word.text_end)

    def facts(self) -> dict[str, Any]:
        """As our own endpoints write it."""
        return {
            "text": self.text,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "from": self.start,
            "to": self.end,
        }
