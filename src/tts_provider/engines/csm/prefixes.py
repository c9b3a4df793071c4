"""Keeps what the model read of prompts that many requests share, as far as memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 256 * 1024 * 1024
"""A voice of half a minute takes 12 MB with 16 bits a number."""


class Prefixes:
    """Results of `Backend.save_prefix` by name. The least recently used are removed first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str | None) -> Any:
        """None if it is not kept."""
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, key: str, prefix: Any) -> None:
        self.drop(key)
        if prefix.size_bytes > self._most_bytes:  # all others would go for it
            return
        self._kept[key] = prefix
        self._bytes += prefix.size_bytes
        while self._bytes > self._most_bytes:
            self.drop(next(iter(self._kept)))

    def drop(self, key: str | None) -> None:
        if key is not None and key in self._kept:
            self._bytes -= self._kept.pop(key).size_bytes

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0
