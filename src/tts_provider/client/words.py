"""When each word is spoken, as the server tells who asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SpokenWord:
    """A word as it was written, with the punctuation that it touches: `$5` is one word."""

    text: str
    """Without markup."""
    start_ms: int
    """On the timeline of the text's audio."""
    end_ms: int
    start: int
    """Its place in the text: characters from here to before `end`."""
    end: int
    is_estimated: bool = False
    """The times were found afterwards, by what it sounds like."""
    turn: int | None = None
    """Which turn of a dialogue it is in, from 0: its place is in that turn's text."""
    voice: str = ""
    """Who says it, where there is more than one voice."""


def read_words(body: dict[str, Any]) -> list[SpokenWord]:
    """The words that a message tells; none where it tells of something else."""
    return [
        SpokenWord(
            word["text"],
            word["start_ms"],
            word["end_ms"],
            word["from"],
            word["to"],
            body["estimated"],
            word.get("turn"),
            word.get("voice", ""),
        )
        for word in body.get("words", ())
    ]
