"""Text → segments → words: the one way from what somebody wrote to what an engine says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tts_provider.speech.normalize import normalize
from tts_provider.speech.segment import Segmenter, split_segments


@dataclass(frozen=True)
class Passage:
    """What an engine says in one go: a sentence, or a part of a long one."""

    text: str
    """As it was written."""
    words: str
    """As it is to be said."""


class Reader:
    """Reads a text that arrives in pieces; all passages together are those of the whole text.

    A passage that has nothing to say is left out.
    """

    def __init__(self, *, words: bool = True) -> None:
        """Without `words`, what was written is left to the engine to read."""
        self._segmenter = Segmenter()
        self._words = words

    @property
    def characters(self) -> int:
        """How many are waiting for the end of their sentence."""
        return self._segmenter.characters

    def push(self, text: str) -> list[Passage]:
        """The passages that `text` completes."""
        return self._read(self._segmenter.push(text))

    def flush(self) -> list[Passage]:
        """What is left, as if the text ended here."""
        return self._read(self._segmenter.flush())

    def take_clause(self) -> list[Passage]:
        """What can be spoken without the rest of the sentence: for a writer who pauses."""
        return self._read(self._segmenter.take_clause())

    def _read(self, segments: Iterable[str]) -> list[Passage]:
        return list(_read(segments, words=self._words))


def read(text: str, *, words: bool = True) -> Iterator[Passage]:
    """The passages of a whole text."""
    return _read(split_segments(text), words=words)


def _read(segments: Iterable[str], *, words: bool) -> Iterator[Passage]:
    for segment in segments:
        passage = Passage(segment, normalize(segment) if words else segment)
        if any(map(str.isalnum, passage.words)):
            yield passage
