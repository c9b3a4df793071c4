"""A book → what is said in one go, in parts that are kept: the same of the same book, always."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import CHARACTERS_PER_S, Block, Book, Chapter
from tts_provider.speech.segment import Segmenter

PART_CHARACTERS = 1200
"""A part ends behind so much: a minute and a half of speech, which is what a crash costs."""
LONGEST_LINE = 1500
"""Characters that are said in one go; a longer paragraph is cut between sentences."""

# Silence, in seconds.
AFTER_HEADING_S = 1.0
AFTER_PARAGRAPH_S = 0.6
AFTER_SCENE_S = 1.6
AFTER_CHAPTER_S = 2.0
WITHIN_PARAGRAPH_S = 0.3


@dataclass(frozen=True)
class Line:
    """What is said in one go, and the silence behind it."""

    text: str
    pause_s: float
    block: int
    """Of its chapter's blocks, from 0."""
    start: int
    """Where in the block's text it begins, in characters."""


@dataclass(frozen=True)
class Part:
    """What is kept in one file."""

    number: int
    """From 0."""
    chapter: int
    """Of the plan's book, from 0."""
    lines: tuple[Line, ...]

    @property
    def characters(self) -> int:
        return sum(len(line.text) for line in self.lines)


@dataclass(frozen=True)
class Plan:
    book: Book
    """With the chapters that are spoken."""
    parts: tuple[Part, ...]

    @property
    def characters(self) -> int:
        return sum(part.characters for part in self.parts)

    def parts_of(self, chapter: int) -> Sequence[Part]:
        return [part for part in self.parts if part.chapter == chapter]

    def only(self, chapter: int) -> Plan:
        """Of one chapter, from 0, as if it was the book."""
        parts = (replace(part, chapter=0) for part in self.parts_of(chapter))
        return Plan(replace(self.book, chapters=(self.book.chapters[chapter],)), tuple(parts))

    def text_digest(self) -> str:
        """Of all that is said and how it is cut, in hexadecimal."""
        told = [[part.chapter, *map(asdict, part.lines)] for part in self.parts]
        return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()


def plan_book(book: Book) -> Plan:
    parts = list[Part]()
    for number, chapter in enumerate(book.chapters):
        held, characters = list[Line](), 0
        for line in _lines(chapter):
            held.append(line)
            characters += len(line.text)
            if characters >= PART_CHARACTERS:
                parts.append(Part(len(parts), number, tuple(held)))
                held, characters = [], 0
        if held:
            parts.append(Part(len(parts), number, tuple(held)))
    return Plan(book, tuple(parts))


def choose_chapters(book: Book, numbers: Collection[int]) -> Book:
    """With these chapters only, counted from 1. Raises `InvalidRequest` for any other."""
    most = len(book.chapters)
    for number in sorted(numbers):
        if not 1 <= number <= most:
            raise InvalidRequest(f"there is no chapter {number}; the book has 1 to {most}")
    chosen = [chapter for n, chapter in enumerate(book.chapters, 1) if n in numbers]
    return replace(book, chapters=tuple(chosen))


def cut_preview(book: Book, preview_s: float, speed: float = 1.0) -> Book:
    """The beginning of it, about so long when it is spoken: whole sentences."""
    left = preview_s * CHARACTERS_PER_S * speed
    chapters = list[Chapter]()
    for chapter in book.chapters:
        kept = list[Block]()
        for block in chapter.blocks:
            if left <= 0:
                break
            text = block.text
            if len(text) > left:
                ends = [end for _, end in _sentences(text)]
                text = text[: next((end for end in ends if end >= left), len(text))]
            kept.append(replace(block, text=text))
            left -= len(text)
        if kept:
            chapters.append(replace(chapter, blocks=tuple(kept)))
    return replace(book, chapters=tuple(chapters))


def _lines(chapter: Chapter) -> Iterator[Line]:
    """In order; the silence behind a line is what comes next, so it is known one later."""
    held: Line | None = None
    for number, block in enumerate(chapter.blocks):
        if block.kind == "break":
            if held is not None:
                held = replace(held, pause_s=max(held.pause_s, AFTER_SCENE_S))
            continue
        pause_s = AFTER_HEADING_S if block.kind == "heading" else AFTER_PARAGRAPH_S
        spans = list(_pieces(block.text))
        for at, (start, end) in enumerate(spans):
            if held is not None:
                yield held
            is_last = at + 1 == len(spans)
            held = Line(
                block.text[start:end], pause_s if is_last else WITHIN_PARAGRAPH_S, number, start
            )
    if held is not None:
        yield replace(held, pause_s=AFTER_CHAPTER_S)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """The whole of it, or whole sentences of it that are not longer than a line may be."""
    if len(text) <= LONGEST_LINE:
        if text.strip():
            yield 0, len(text)
        return
    start = end = 0
    for _, sentence_end in [*_sentences(text), (0, len(text))]:
        if sentence_end - start > LONGEST_LINE and end > start:
            yield start, end
            start = end
        end = sentence_end
    yield start, end


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    segmenter = Segmenter()
    yield from segmenter.push(text)
    yield from segmenter.flush()


def expected_s(characters: int, speed: float = 1.0) -> int:
    """How long so much text takes to listen to, in whole seconds."""
    return math.ceil(characters / CHARACTERS_PER_S / speed)
