"""Finds the words of a text: what is between spaces or dashes, without punctuation around it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_CHUNK = re.compile(r"[^\s—–…]+")


def find_words(text: str) -> Iterator[tuple[int, int]]:
    """Each word from its first character to before its end."""
    for chunk in _CHUNK.finditer(text):
        heard = [at for at in range(*chunk.span()) if _is_heard(text[at])]
        if heard:
            yield heard[0], heard[-1] + 1


def _is_heard(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")
