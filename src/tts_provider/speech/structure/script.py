"""Reads who says what in a script: a line `NAME: …` begins a turn."""

from __future__ import annotations

import re
from dataclasses import dataclass

NARRATOR = "narrator"
"""Who says what stands under no name."""

# A name is at a line's beginning and has no sentence in it: "10:30" and "https://" are none.
_NAME = re.compile(r"(?P<name>[^\W\d_][^:.,;!?\"“”\n]{0,39}):(?:[ \t]+|$)")
_COMMENT = "#"


@dataclass(frozen=True)
class Line:
    """What one person in the script says in one go."""

    name: str
    """As it is written; empty where it stands under no name."""
    text: str
    number: int
    """Of the line that it begins in, from 1."""


def read_script(text: str) -> list[Line]:
    """The turns in order. A turn continues until the next name or a blank line; lines that begin
    with `#` are left out."""
    lines = list[Line]()
    is_open = False  # the last turn goes on
    for number, written in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        words = written.strip()
        if words.startswith(_COMMENT):
            continue
        if not words:
            is_open = False
            continue
        named = _NAME.match(words) if not written[:1].isspace() else None
        if named is not None:
            lines.append(Line(named["name"].strip(), words[named.end() :].strip(), number))
        elif is_open:
            last = lines[-1]
            lines[-1] = Line(last.name, f"{last.text} {words}".strip(), last.number)
        else:
            lines.append(Line("", words, number))
        is_open = True
    return [line for line in lines if line.text]
