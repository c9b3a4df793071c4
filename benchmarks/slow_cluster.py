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
BASE_MS, EACH_MS, PLACES = 25.0, 0.9, 32
POLLED_S = 8.0
"""A gateway asks how replicas are every 5 s, and waits 3 s for the answer."""
SILENT_S = 10.0
"""Without second requests a frozen replica is known by a time-out."""
LOST_S = 1.0
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
    waits_s: list[float] = field(default_factory=list)
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


def simulate(
    replicas: int, part: float, slow: int, speed: float, percent: float | None, seed: int
) -> Outcome:
    """`part` of what the cluster can bear; `slow` replicas have so much of their `speed` meanwhile.
    Without `percent` nobody is asked twice, and nobody set aside."""
    random, outcome = np.random.default_rng(seed), Outcome()
    addresses = Addresses([str(number) for number in range(replicas)])
    budget = Budget(percent or 0.0)
    ailing = set(list(addresses)[:slow])
    for address in addresses:
        address.is_up = True
    full_ms = BASE_MS + EACH_MS * PLACES
    rate = part * replicas * PLACES * 1000 * FRAME_S / full_ms / MEAN_AUDIO_S
    turns = list[Turn]()

    def ask(now_s: float, turn: list[Address]) -> Request | None:
        for address in turn:
            if address.active < PLACES:
                if address.standing.is_aside:
                    address.standing.begin_trial(now_s)
                address.active += 1
                return Request(address, now_s)
        return None

    def drop(request: Request) -> None:
        request.replica.active -= 1
        outcome.in_vain += request.made

    for tick in range(round(SECONDS / TICK_S)):
        now_s = tick * TICK_S
        is_ailing = FAULT_S[0] <= now_s < FAULT_S[1]
        for address in ailing:
            address.is_up = not (speed == 0 and is_ailing and now_s > FAULT_S[0] + POLLED_S)
        for _ in range(random.poisson(rate * TICK_S)):
            budget.earn()
            outcome.asked += 1
            audio_s = min(random.lognormal(math.log(MEDIAN_AUDIO_S), SIGMA), 60.0)
            request = ask(now_s, addresses.in_turn(now_s=now_s))
            if request is not None:
                turns.append(Turn(now_s, audio_s / FRAME_S, request))
        left = []
        for turn in turns:
            for request in (turn.first, turn.second):
                if request is not None:
                    address = request.replica
                    own = speed if is_ailing and address in ailing else 1.0
                    step_s = (BASE_MS + EACH_MS * address.active) / 1000
                    request.made += own * TICK_S / step_s
                    outcome.made += own * TICK_S / step_s
            if not turn.is_heard:
                hear(turn, now_s, addresses, budget, outcome, drop, ask, percent)
            if turn.is_heard and turn.first.made >= turn.frames:
                turn.first.replica.active -= 1
            elif turn.is_heard and is_ailing and speed == 0 and turn.first.replica in ailing:
                drop(turn.first)  # what was begun is continued, or lost: not counted here
            else:
                left.append(turn)
        turns = left
    return outcome


def hear(turn, now_s, addresses, budget, outcome, drop, ask, percent) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Whether its first audio is there, or another replica is asked."""
    first, second = turn.first, turn.second
    for request, other in ((first, second), (second, first)):
        if request is None or request.made < 1:
            continue
        address, took_s = request.replica, now_s - request.asked_s
        if percent is not None:
            if took_s <= address.patience_s:
                address.standing.hit()
            address.first_audio.add(took_s)
            if other is not None and request is second:
                other.replica.standing.miss(now_s)
                other.replica.first_audio.add(now_s - other.asked_s)
        if other is not None:
            drop(other)
        turn.first, turn.second, turn.is_heard = request, None, True
        wait_s = now_s + TICK_S - turn.arrived_s
        outcome.waits_s.append(wait_s)
        if FAULT_S[0] <= turn.arrived_s < FAULT_S[1]:
            outcome.during_s.append(wait_s)
        return
    waited_s = now_s - first.asked_s
    if percent is None:
        if waited_s > SILENT_S:
            drop(first)
            found = ask(now_s, addresses.in_turn(first.replica, now_s))
            turn.first = found or first
        return
    if second is None and not turn.is_overdue and waited_s > first.replica.patience_s:
        turn.is_overdue = True
        others = addresses.rescuers(first.replica)
        if others and (first.replica.standing.is_aside or budget.spend()):
            turn.second = ask(now_s, others)
            outcome.twice += turn.second is not None
    elif second is None and waited_s > first.replica.patience_s + LOST_S and first.made == 0:
        first.replica.standing.miss(now_s)
        drop(first)
        found = ask(now_s, addresses.in_turn(first.replica, now_s))
        turn.first = found or first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--percent", type=float, default=2.0)
    given = parser.parse_args()
    print(
        f"{'replicas':>8} {'slow':>12} {'second':>8} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'p99.9':>8} "
        f"{'>1 s %':>8} {'twice %':>8} {'in vain':>8}"
    )
    for replicas in (16, 64):
        for name, speed in (("none", 1.0), ("throttled", 0.1), ("frozen", 0.0)):
            slow = 0 if name == "none" else replicas // 16
            for percent in (None, given.percent):
                outcome = simulate(replicas, given.load, slow, speed, percent, 0)
                asked = "no" if percent is None else f"{percent:g} %"
                label = f"{slow} {name}" if slow else "none"
                print(f"{replicas:8} {label:>12} {asked:>8} {outcome.row()}", flush=True)


if __name__ == "__main__":
    main()
