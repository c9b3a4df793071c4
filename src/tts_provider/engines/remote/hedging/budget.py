"""How many requests may be made twice, so that a cluster which is slow because it has too much to
do is not given more."""

from __future__ import annotations

_AT_ONCE, _AT_ONCE_AN_ADDRESS = 8, 4
"""Saved up at most, for the streams of a replica that are late at the same moment. It is soon known
to be silent, and then lost, which needs no budget."""


class Budget:
    def __init__(self, percent: float, addresses: int = 1) -> None:
        """Of all requests, which go to so many addresses; 0 is none at all."""
        self._share = percent / 100
        self._most = float(max(_AT_ONCE, _AT_ONCE_AN_ADDRESS * addresses))
        self._left = self._most if percent else 0.0

    def earn(self) -> None:
        """A request was made."""
        self._left = min(self._left + self._share, self._most)

    def spend(self) -> bool:
        """Whether one may be made twice, which it then was."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
