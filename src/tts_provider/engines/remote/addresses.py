"""Where replicas are asked: whose turn it is, and which do not answer. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(eq=False)
class Address:
    """A replica, or whatever spreads requests over many."""

    url: str
    is_up: bool = False
    problem: str = "nobody answered yet"
    """Why it is not up, in words."""
    is_refused: bool = False
    """It answers, and time will not make it usable: another release, another key."""
    active: int = 0
    """Requests of ours that it is at work on."""
    heard_s: float = 0.0
    """When something of it arrived, on the event loop's clock."""
    asked_s: float = 0.0
    """When it was last asked how it is."""
    pause_s: float = 0.0
    """For how long it is not asked how it is, while it is not up."""
    is_asked: bool = False
    """Its answer to that is awaited."""


class Addresses:
    """All of them, in the order that they were named."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [Address(url) for url in urls]
        self._next = 0

    def __iter__(self) -> Iterator[Address]:
        return iter(self._all)

    @property
    def are_up(self) -> bool:
        """At least one is."""
        return any(address.is_up for address in self._all)

    @property
    def are_refused(self) -> bool:
        """Waiting will not help."""
        return all(address.is_refused for address in self._all)

    def in_turn(self, avoid: Address | None = None) -> list[Address]:
        """Those that are up: the least busy first, and of those that are equally busy another one
        first each time. The one to avoid comes last."""
        up = [address for address in self._all if address.is_up]
        if not up:
            return []
        self._next += 1
        start = self._next % len(up)
        turn = [*up[start:], *up[:start]]
        return sorted(turn, key=lambda address: (address is avoid, address.active))

    def problems(self) -> str:
        """Why those that are not up are not, in words."""
        return "; ".join(f"{a.url} {a.problem}" for a in self._all if not a.is_up)
