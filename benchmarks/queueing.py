"""Many replicas on paper: who waits how long, who is refused, and how autoscaling follows a load.

A simulation, in frames of 80 ms. Turns of a conversation arrive at random (Poisson), their audio
is log-normal. A replica makes one frame of each of its streams in `base + each × streams`
milliseconds, and waits where a stream is `ahead` of its listener. A turn goes to the least busy
replica; where all are full it waits in one line, where the line is full it is refused.

    python benchmarks/queueing.py                  the tables of docs/scale.md
    python benchmarks/queueing.py --base 30 --each 1.2 --places 24
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FRAME_S = 0.08
MEDIAN_AUDIO_S, SIGMA = 5.0, 0.7
MEAN_AUDIO_S = MEDIAN_AUDIO_S * math.exp(SIGMA**2 / 2)


@dataclass(frozen=True)
class Cluster:
    base_ms: float
    each_ms: float
    places: int
    """Streams a replica takes: Ray's `max_ongoing_requests`."""
    ahead_s: float
    line: int
    """Requests that wait in all: `max_queued_requests` of each proxy."""
    start_s: float
    """From the decision for another replica to its first stream."""
    target: float
    """Streams a replica should have: `target_ongoing_requests`."""
    upscale_s: float = 2.0
    downscale_s: float = 600.0
    look_back_s: float = 5.0


@dataclass
class Outcome:
    waits_s: list[float] = field(default_factory=list)
    asked: int = 0
    refused: int = 0
    late: int = 0
    """Streams that fell behind their listener."""
    replicas: list[int] = field(default_factory=list)
    """How many there were, frame by frame."""

    def row(self) -> str:
        p50, p95, p99 = np.percentile(self.waits_s or [0.0], [50, 95, 99])
        return (
            f"{1000 * p50:8.0f} {1000 * p95:8.0f} {1000 * p99:8.0f} "
            f"{100 * self.refused / max(self.asked, 1):8.2f} "
            f"{100 * self.late / max(len(self.waits_s), 1):8.2f} {self.replicas[-1]:8d}"
        )


@dataclass
class Stream:
    replica: int
    frames: float
    made: float = 0.0
    played: float = 0.0
    was_late: bool = False


def simulate(
    cluster: Cluster,
    load: Callable[[float], float],
    replicas: int,
    seconds: float,
    *,
    most: int | None = None,
    seed: int = 0,
) -> Outcome:
    """`load` is how many listeners hear speech at a moment, on average. With `most` the number of
    replicas follows the load up to it. The first tenth is not counted."""
    random = np.random.default_rng(seed)
    busy, streams, line = [0] * replicas, list[Stream](), deque[tuple[float, float]]()
    outcome, starting, recent = Outcome(), deque[float](), deque[int]()
    above_s = below_s = 0.0

    def begin(replica: int, arrived_s: float, now_s: float, frames: float) -> None:
        busy[replica] += 1
        streams.append(Stream(replica, frames))
        if now_s > seconds / 10:
            step_s = (cluster.base_ms + cluster.each_ms * busy[replica]) / 1000
            outcome.waits_s.append(now_s - arrived_s + step_s)

    for tick in range(int(seconds / FRAME_S)):
        now_s = tick * FRAME_S
        rate = load(now_s) / MEAN_AUDIO_S
        for _ in range(random.poisson(rate * FRAME_S)):
            outcome.asked += now_s > seconds / 10
            audio_s = min(random.lognormal(math.log(MEDIAN_AUDIO_S), SIGMA), 60.0)
            if len(line) >= cluster.line:
                outcome.refused += now_s > seconds / 10
            else:
                line.append((now_s, audio_s / FRAME_S))
        while starting and starting[0] <= now_s:
            starting.popleft()
            busy.append(0)
        while line:
            replica = min(range(len(busy)), key=busy.__getitem__)
            if busy[replica] >= cluster.places:
                break
            begin(replica, line[0][0], now_s, line.popleft()[1])
        left = []
        for stream in streams:
            step_ms = cluster.base_ms + cluster.each_ms * busy[stream.replica]
            if (stream.made - stream.played) * FRAME_S < cluster.ahead_s:
                stream.made += 1000 * FRAME_S / step_ms
            stream.played = min(stream.played + 1, stream.made)
            stream.was_late |= stream.made < stream.frames and stream.made - stream.played < 0.01
            if stream.made < stream.frames:
                left.append(stream)
            else:
                busy[stream.replica] -= 1
                outcome.late += stream.was_late and now_s > seconds / 10
        streams = left
        outcome.replicas.append(len(busy))
        if most is not None:
            recent.append(len(streams) + len(line))
            if len(recent) * FRAME_S > cluster.look_back_s:
                recent.popleft()
            wanted = min(math.ceil(sum(recent) / len(recent) / cluster.target), most)
            have = len(busy) + len(starting)
            above_s = above_s + FRAME_S if wanted > have else 0.0
            below_s = below_s + FRAME_S if wanted < have else 0.0
            if above_s > cluster.upscale_s:
                starting.extend([now_s + cluster.start_s] * (wanted - have))
                above_s = 0.0
            if below_s > cluster.downscale_s and busy[-1] == 0 and len(busy) > 1:
                busy.pop()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number = parser.add_argument
    number("--base", type=float, default=25.0, help="milliseconds of a step (assumed: 25)")
    number("--each", type=float, default=0.9, help="more for each stream (assumed: 0.9)")
    number("--places", type=int, default=32, help="streams a replica (32)")
    number("--ahead", type=float, default=20.0, help="seconds ahead of a listener (20)")
    number("--line", type=int, default=64, help="requests that may wait (64)")
    number("--start", type=float, default=30.0, help="seconds for a replica to start (assumed: 30)")
    number("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    cluster = Cluster(
        given.base, given.each, given.places, given.ahead, given.line, given.start, 24.0
    )
    full_ms = given.base + given.each * given.places
    # A full replica makes more than its listeners hear, so it serves more listeners than places.
    rate = given.places * 1000 * FRAME_S / full_ms
    print(f"a step with {given.places} streams takes {full_ms:.1f} ms: {rate:.1f} s of audio a s")
    head = f"{'ms to first audio: p50':>27} {'p95':>8} {'p99':>8} {'refused%':>8} {'late %':>8}"
    print(f"\nfixed replicas at so much of their rate\n{'replicas':>9} {'load':>8} {head}")
    for replicas in (1, 4, 16):
        for part in (0.5, 0.7, 0.85, 0.95, 1.1):
            listeners = part * replicas * rate
            outcome = simulate(cluster, lambda _, n=listeners: n, replicas, given.seconds)
            print(f"{replicas:9} {100 * part:7.0f}% {outcome.row()[:53]}")
    print(f"\nlisteners double at once at half time, 4 replicas grow to 16\n{'spare':>9} {head}")
    for target in (12.0, 24.0, 30.0):
        listeners = 4 * target * 1000 * FRAME_S / (given.base + given.each * target)
        scaled = Cluster(
            given.base, given.each, given.places, given.ahead, given.line, given.start, target
        )
        half = given.seconds / 2
        outcome = simulate(
            scaled,
            lambda now_s, n=listeners, h=half: n * (2 if now_s > h else 1),
            4,
            given.seconds,
            most=16,
        )
        print(f"target {target:2.0f} {outcome.row()}")


if __name__ == "__main__":
    main()
