"""Where the words of a text are: what stands between spaces or dashes, without marks around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CHUNK = re.compile(r"[^\s—–…]+")


def find_words(text: str) -> Iterator[tuple[int, int]]:
    """Each from its first character to before the last."""
    for chunk in _CHUNK.finditer(text):
        heard = [
            at for at, character in enumerate(chunk.group(), chunk.start()) if character.isalnum()
        ]
        if heard:
            yield heard[0], heard[-1] + 1
