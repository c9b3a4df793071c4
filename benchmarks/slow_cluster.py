"""Many replicas on paper, one in sixteen of which becomes slow: what second requests cost and save.

The cluster and its load are those of `queueing.py`; time is in steps of 10 ms. Patience, budget and
shares are the gateways' own (`engines/remote/hedging/`), as one gateway with all of the load would
have them. For half a minute in the middle the slow replicas stand still (frozen), or work a tenth
of the time (throttled).

    python benchmarks/slow_cluster.py        the table of docs/scale.md
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field

import numpy as np

from queueing import FRAME_S, MEAN_AUDIO_S, MEDIAN_AUDIO_S, SIGMA
from tts_provider.engines.remote.addresses import Address, Addresses
from tts_provider.engines.remote.hedging.budget import Budget

TICK_S = 0.01
FLOOR_S = 0.2
"""No patience is shorter."""
BASE_MS, EACH_MS, PLACES = 25.0, 0.9, 32
POLLED_S = 8.0
"""A gateway asks how replicas are every 5 s, and waits 3 s for the answer."""
SILENT_S = 10.0
"""Without second requests a frozen replica is known by a time-out."""
LOST_S = 2.0
"""With them it does not answer the question how it is."""
FAULT_S = (20.0, 50.0)
SECONDS = 60.0


@dataclass(eq=False)
class Request:
    replica: Address
    asked_s: float
    made: float = 0.0
    """Frames."""


@dataclass(eq=False)
class Turn:
    arrived_s: float
    frames: float
    first: Request
    second: Request | None = None
    is_heard: bool = False
    is_overdue: bool = False


@dataclass
class Outcome:
    during_s: list[float] = field(default_factory=list)
    """Of turns that arrived while replicas were slow."""
    asked: int = 0
    twice: int = 0
    made: float = 0.0
    in_vain: float = 0.0
    """Frames that nobody heard."""

    def row(self) -> str:
        whole = 1000 * np.percentile(self.during_s, [50, 95, 99, 99.9])
        late = 100 * np.mean(np.array(self.during_s) > 1.0)
        figures = " ".join(f"{ms:8.0f}" for ms in whole)
        twice, vain = 100 * self.twice / self.asked, 100 * self.in_vain / self.made
        return f"{figures} {late:8.2f} {twice:8.2f} {vain:8.2f}"


class Cluster:
    def __init__(self, replicas: int, slow: int, speed: float, percent: float | None) -> None:
        """`slow` replicas have so much of their `speed` meanwhile. Without `percent` nobody is
        asked twice, and nobody set aside by what requests show."""
        self.addresses = Addresses([str(number) for number in range(replicas)])
        self.outcome = Outcome()
        self._budget = Budget(percent or 0.0, replicas)
        self._is_hedging = percent is not None
        self._speed = speed
        self._slow = set(list(self.addresses)[:slow])
        for address in self.addresses:
            address.is_up = True
        self._turns = list[Turn]()
        self._now_s = 0.0

    def run(self, rate: float, random: np.random.Generator) -> Outcome:
        """`rate` turns arrive in a second."""
        for tick in range(round(SECONDS / TICK_S)):
            self._now_s = tick * TICK_S
            for address in self._slow:
                is_known = self._speed == 0 and self._now_s > FAULT_S[0] + POLLED_S
                address.is_up = not (self._is_ailing and is_known)
            for _ in range(random.poisson(rate * TICK_S)):
                audio_s = min(random.lognormal(math.log(MEDIAN_AUDIO_S), SIGMA), 60.0)
                self._arrive(audio_s / FRAME_S)
            self._turns = [turn for turn in self._turns if self._goes_on(turn)]
        return self.outcome

    @property
    def _is_ailing(self) -> bool:
        return FAULT_S[0] <= self._now_s < FAULT_S[1]

    def _arrive(self, frames: float) -> None:
        self._budget.earn()
        self.outcome.asked += 1
        request = self._ask(self.addresses.in_turn(now_s=self._now_s))
        if request is not None:
            self._turns.append(Turn(self._now_s, frames, request))

    def _ask(self, turn: list[Address]) -> Request | None:
        for address in turn:
            if address.active < PLACES:
                if address.standing.is_aside:
                    address.standing.begin_trial(self._now_s)
                address.active += 1
                return Request(address, self._now_s)
        return None

    def _drop(self, request: Request) -> None:
        request.replica.active -= 1
        self.outcome.in_vain += request.made

    def _ask_again(self, turn: Turn) -> None:
        self._drop(turn.first)
        lost = turn.first.replica
        turn.first = self._ask(self.addresses.in_turn(lost, self._now_s)) or turn.first

    def _goes_on(self, turn: Turn) -> bool:
        """A step of it."""
        for request in (turn.first, turn.second):
            if request is not None:
                address = request.replica
                is_slow = self._is_ailing and address in self._slow
                frames = 1000 * TICK_S / (BASE_MS + EACH_MS * address.active)
                frames *= self._speed if is_slow else 1.0
                request.made += frames
                self.outcome.made += frames
        if not turn.is_heard:
            self._hear(turn)
        if turn.is_heard and turn.first.made >= turn.frames:
            turn.first.replica.active -= 1
            return False
        is_frozen = self._is_ailing and self._speed == 0 and turn.first.replica in self._slow
        if turn.is_heard and is_frozen:  # it is continued, or lost: not counted here
            self._drop(turn.first)
            return False
        return True

    def _hear(self, turn: Turn) -> None:
        """Its first audio is there, or another replica is asked."""
        first, second = turn.first, turn.second
        if first.made >= 1 or (second is not None and second.made >= 1):
            self._speaks(turn)
            return
        waited_s = self._now_s - first.asked_s
        if waited_s < FLOOR_S:
            return  # as nearly all
        patience_s = self.addresses.patience_s(first.replica)
        if not self._is_hedging:
            if waited_s > SILENT_S:
                self._ask_again(turn)
        elif second is None and not turn.is_overdue and waited_s > patience_s:
            turn.is_overdue = True
            others = self.addresses.rescuers(first.replica)
            if others and (first.replica.standing.is_aside or self._budget.spend()):
                turn.second = self._ask(others)
                self.outcome.twice += turn.second is not None
        elif second is None and waited_s > patience_s + LOST_S and not first.made:
            first.replica.standing.miss(self._now_s)
            self._ask_again(turn)

    def _speaks(self, turn: Turn) -> None:
        """Whoever speaks first is heard."""
        heard, other = turn.first, turn.second
        if heard.made < 1 and other is not None:
            heard, other = other, heard
        took_s = self._now_s - heard.asked_s
        if took_s <= self.addresses.patience_s(heard.replica):
            heard.replica.standing.hit()
        heard.replica.first_audio.add(took_s)
        if other is not None:
            if heard is turn.second and self._is_hedging:
                other.replica.standing.miss(self._now_s)
                other.replica.first_audio.add(self._now_s - other.asked_s)
            self._drop(other)
        turn.first, turn.second, turn.is_heard = heard, None, True
        if FAULT_S[0] <= turn.arrived_s < FAULT_S[1]:
            self.outcome.during_s.append(self._now_s + TICK_S - turn.arrived_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--percent", type=float, default=2.0)
    given = parser.parse_args()
    print(
        f"{'replicas':>8} {'slow':>12} {'second':>8} "
        f"{'p50 ms':>8} {'p95':>8} {'p99':>8} {'p99.9':>8} "
        f"{'>1 s %':>8} {'twice %':>8} {'in vain':>8}"
    )
    for replicas in (16, 64):
        full_ms = BASE_MS + EACH_MS * PLACES
        rate = given.load * replicas * PLACES * 1000 * FRAME_S / full_ms / MEAN_AUDIO_S
        for name, speed in (("none", 1.0), ("throttled", 0.1), ("frozen", 0.0)):
            slow = 0 if name == "none" else replicas // 16
            for percent in (None, given.percent):
                cluster = Cluster(replicas, slow, speed, percent)
                outcome = cluster.run(rate, np.random.default_rng(0))
                asked = "no" if percent is None else f"{percent:g} %"
                label = f"{slow} {name}" if slow else "none"
                print(f"{replicas:8} {label:>12} {asked:>8} {outcome.row()}", flush=True)


if __name__ == "__main__":
    main()
