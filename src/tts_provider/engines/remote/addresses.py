"""Where replicas are asked: whose turn it is, and which do not answer. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tts_provider.engines.remote.hedging.latency import Latency, Range
from tts_provider.engines.remote.hedging.standing import Standing

_FIRST_AUDIO = Range(floor_s=0.2, ceiling_s=3.0, unknown_s=1.0)
_MOST_TIMES = 2.0
_LATENESS = Range(floor_s=0.25, ceiling_s=3.0, unknown_s=0.5)


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
    repeats: frozenset[str] = frozenset()
    """Sources of voices in which it says the same with the same samples each time."""
    replicas: set[str] = field(default_factory=set)
    """Names that its answers were signed with, two at most: with two it is a balancer."""
    standing: Standing = field(default_factory=Standing)
    """What requests have shown of it."""
    credit: float = 0.0
    """What it was owed and not given, in requests."""
    first_audio: Latency = field(default_factory=lambda: Latency(_FIRST_AUDIO))
    lateness: Latency = field(default_factory=lambda: Latency(_LATENESS))
    """How long listeners had nothing left before the next sound came; 0 as a rule."""

    def signed(self, replica: str | None) -> None:
        """An answer came of this one."""
        if replica is not None and len(self.replicas) < 2:
            self.replicas.add(replica)


class Addresses:
    """All of them, in the order that they were named."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [Address(url) for url in urls]

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

    def in_turn(self, avoid: Address | None = None, now_s: float = 0.0) -> list[Address]:
        """Those that are up: the least busy for its share first, and of those that are equally busy
        each as often as its share is. The one to avoid comes last.

        Who is set aside is not among them; but when its trial is due it is the first. Where more
        than half are set aside they are slow because there is too much to do: the few others would
        only be next.
        """
        up = [address for address in self._all if address.is_up]
        if not up:
            return []
        fit = [address for address in up if not address.standing.is_aside]
        is_spared = 2 * len(fit) >= len(up)
        turn = fit if is_spared else up
        for address in turn:  # smooth weighted round robin
            address.credit += address.standing.share
        turn.sort(key=lambda a: (a is avoid, a.active / a.standing.share, -a.credit))
        turn[0].credit -= sum(address.standing.share for address in turn)
        tried = [a for a in up if a.standing.is_due(now_s) and a is not avoid]
        return [*tried[:1], *turn] if is_spared else turn

    def patience_s(self, asked: Address) -> float:
        """For how long the first audio of an address is waited for before another one is asked too:
        as long as it usually takes, and at most twice as long as another one usually takes, or who
        is always slow would never be late. A trial is not to cost its listener much."""
        if asked.standing.is_aside:
            return _FIRST_AUDIO.floor_s
        others = (a for a in self._all if a.is_up and a is not asked and not a.standing.is_aside)
        best_s = min((a.first_audio.patience_s for a in others), default=math.inf)
        return min(asked.first_audio.patience_s, _MOST_TIMES * best_s)

    def rescuers(self, late: Address) -> list[Address]:
        """Who can be asked what `late` was asked too, best first: others without a fault, or itself
        where it is a balancer before several."""
        turn = [a for a in self.in_turn(late) if not a.standing.is_aside and a is not late]
        if not turn and late.is_up and len(late.replicas) > 1:
            return [late]
        return turn

    def problems(self) -> str:
        """Why those that are not up are not, in words."""
        return "; ".join(f"{a.url} {a.problem}" for a in self._all if not a.is_up)
