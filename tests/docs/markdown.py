"""What is in the documentation: fenced blocks, and the comments before them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers import REPOSITORY

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/books.md",
    "docs/clients.md",
    "docs/command-line.md",
    "docs/deploy.md",
    "docs/limits.md",
    "docs/models.md",
    "docs/performance-notes.md",
    "docs/protocol.md",
    "docs/python.md",
    "docs/scale.md",
    "docs/security.md",
    "docs/text.md",
    "docs/voices.md",
    "examples/README.md",
    "training/README.md",
)

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\S*)")
_COMMENT = re.compile(r" *<!-- (?P<kind>[a-z ]+): (?P<words>.*) -->")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    not_run: str | None = None
    """Why it is not run: `<!-- not run: WHY -->` on the line before."""
    server: str = "ready"
    """What its server is like: `<!-- server: loading -->` on the line before."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    return Path(REPOSITORY, page).read_text("utf-8")


def blocks(page: str) -> Iterator[Block]:
    lines = read(page).splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.fullmatch(lines[number])
        if opening is None:
            number += 1
            continue
        indent, start = opening["indent"], number + 1
        end = lines.index(indent + "```", start)
        body = "".join(line.removeprefix(indent) + "\n" for line in lines[start:end])
        comment = _COMMENT.fullmatch(lines[number - 1])
        notes = {comment["kind"]: comment["words"]} if comment else {}
        assert set(notes) <= {"not run", "server"}, f"{page}:{number}: {lines[number - 1]}"
        yield Block(
            page,
            number + 1,
            opening["language"],
            body,
            notes.get("not run"),
            notes.get("server", "ready"),
        )
        number = end + 1


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]
