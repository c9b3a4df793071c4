"""Words that somebody wrote, with times that are easy to read."""

from __future__ import annotations

from tts_provider.speech.engine import SAMPLE_RATE, Word


def word_at(text: str, start_ms: int, end_ms: int, text_start: int, text_end: int) -> Word:
    start, end = (ms * SAMPLE_RATE // 1000 for ms in (start_ms, end_ms))
    return Word(start, end, text_start, text_end, text=text)
