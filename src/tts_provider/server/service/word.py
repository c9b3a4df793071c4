"""A word and its time, as our own endpoints write it."""

from __future__ import annotations

from typing import Any

from tts_provider.speech.engine import Word


def word_facts(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "start_ms": word.start_ms,
        "end_ms": word.end_ms,
        "from": word.text_start,
        "to": word.text_end,
    }
