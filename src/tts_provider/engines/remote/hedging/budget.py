"""How many requests may be made twice, so that a cluster which is slow because it has too much to
do is not given more."""

from __future__ import annotations

_AT_ONCE = 8
"""Saved up at most, for the streams of one replica that are late at the same moment. It is soon
known to be silent, and then lost, which needs no budget."""


class Budget:
    def __init__(self, percent: float) -> None:
        """Of all requests; 0 is none at all."""
        self._share = percent / 100
        self._left = float(_AT_ONCE) if percent else 0.0

    def earn(self) -> None:
        """A request was made."""
        self._left = min(self._left + self._share, float(_AT_ONCE))

    def spend(self) -> bool:
        """Whether one may be made twice, which it then was."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
