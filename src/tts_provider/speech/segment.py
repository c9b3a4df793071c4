"""Text → segments: sentences, and parts of a sentence where one is too long to speak in one go."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentence_stream import SentenceBoundaryDetector

SEGMENT_CHARACTERS = 300
"""The longest segment: about 20 s of speech, so one text never keeps an engine to itself."""

# Where a long sentence is best cut, best first: after a clause, after a dash, between words.
_CUTS = (re.compile(r"[,;:)\]]\s"), re.compile(r"[–—-]\s"), re.compile(r"\s"))


def split_segments(text: str, longest: int = SEGMENT_CHARACTERS) -> Iterator[str]:
    """Yield the text's sentences in order, each stripped, non-empty and at most `longest` long."""
    detector = SentenceBoundaryDetector()
    for sentence in [*detector.add_chunk(text), detector.finish()]:
        yield from _split_sentence(sentence.strip(), longest)


def _split_sentence(sentence: str, longest: int) -> Iterator[str]:
    while len(sentence) > longest:
        cut = _cut_position(sentence, longest)
        if part := sentence[:cut].strip():
            yield part
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def _cut_position(sentence: str, longest: int) -> int:
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(sentence, 0, longest)]
        # A cut in the first third would leave a stump that sounds broken off.
        if ends and ends[-1] > longest // 3:
            return ends[-1]
    return longest
