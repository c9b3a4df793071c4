"""A book as it is to be spoken: chapters of paragraphs, and what of the file is no speech."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

BlockKind = Literal["heading", "paragraph", "break"]
"""A break is a change of scene, and has no text."""

CHARACTERS_PER_S = 15.0
"""So fast is English spoken at speed 1, for a forecast: hibari says 15.6 of the King James'."""


@dataclass(frozen=True)
class Block:
    kind: BlockKind
    text: str = ""
    """Plain text, or Markdown as `speech.reading` reads it: it may have lines."""


@dataclass(frozen=True)
class Chapter:
    title: str
    """As a player shows it; what is said of it is in a heading."""
    blocks: tuple[Block, ...]

    @property
    def words(self) -> int:
        return sum(len(block.text.split()) for block in self.blocks)

    @property
    def characters(self) -> int:
        return sum(len(block.text) for block in self.blocks)


@dataclass(frozen=True)
class Cover:
    media_type: Literal["image/jpeg", "image/png"]
    data: bytes


@dataclass(frozen=True)
class LeftOut:
    """What of a file is no speech: so many of its kind, with so many words."""

    what: str
    """In the plural: "page numbers"."""
    count: int
    words: int


@dataclass(frozen=True)
class Book:
    title: str
    """Empty where the file does not say."""
    author: str
    language: str
    """A tag of BCP 47; empty where the file does not say."""
    chapters: tuple[Chapter, ...]
    left_out: tuple[LeftOut, ...] = ()
    cover: Cover | None = None

    @property
    def words(self) -> int:
        return sum(chapter.words for chapter in self.chapters)

    @property
    def characters(self) -> int:
        return sum(chapter.characters for chapter in self.chapters)

    def to_json(self) -> dict[str, Any]:
        """What `book_from_json` reads."""
        told = asdict(self)
        if self.cover is not None:
            told["cover"]["data"] = base64.b64encode(self.cover.data).decode("ascii")
        return told


def book_from_json(told: Mapping[str, Any]) -> Book:
    """Raises `LookupError`, `TypeError` or `ValueError` for what no `to_json` gave."""
    cover = told["cover"]
    return Book(
        title=told["title"],
        author=told["author"],
        language=told["language"],
        chapters=tuple(
            Chapter(chapter["title"], tuple(Block(**block) for block in chapter["blocks"]))
            for chapter in told["chapters"]
        ),
        left_out=tuple(LeftOut(**one) for one in told["left_out"]),
        cover=None
        if cover is None
        else Cover(cover["media_type"], base64.b64decode(cover["data"], validate=True)),
    )


class LeftOutCounter:
    """Counts what is left out while a file is read."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, what: str, text: str = "", count: int = 1) -> None:
        """`text` is what is not spoken."""
        before, words = self._counts.get(what, (0, 0))
        self._counts[what] = before + count, words + len(text.split())

    def add_all(self, other: LeftOutCounter) -> None:
        for one in other.all():
            before, words = self._counts.get(one.what, (0, 0))
            self._counts[one.what] = before + one.count, words + one.words

    def all(self) -> tuple[LeftOut, ...]:
        return tuple(LeftOut(what, *counts) for what, counts in self._counts.items())
