"""A word and its time, as this server's own endpoints write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tts_provider.speech.engine import Word


def words_facts(words: Sequence[Word]) -> dict[str, Any]:
    return {"words": [_facts(word) for word in words], "estimated": are_estimated(words)}


def are_estimated(words: Sequence[Word]) -> bool:
    """Whether the times were found afterwards, by forced alignment."""
    return any(word.is_estimated for word in words)


def _facts(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "start_ms": word.start_ms,
        "end_ms": word.end_ms,
        "from": word.text_start,
        "to": word.text_end,
        **who_says(word),
    }


def who_says(word: Word) -> dict[str, Any]:
    """Empty if there is one voice."""
    turn = {} if word.turn is None else {"turn": word.turn}
    return {**turn, "voice": word.voice} if word.voice else turn
