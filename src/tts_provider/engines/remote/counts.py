"""What a gateway counts of its replicas, for Prometheus."""

from __future__ import annotations

from collections import OrderedDict

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector

_REPLICAS_KEPT = 256
"""Replicas that come and go have new names; those not heard of longest are forgotten."""


class Counts:
    def __init__(self) -> None:
        self._streams = Counter(
            "tts_remote_streams",
            "Passages by the replica that was asked and how they ended.",
            ["replica", "outcome"],
            registry=None,
        )
        self._up = Gauge(
            "tts_remote_up", "1 where engines can be asked.", ["address"], registry=None
        )
        self._outcomes: OrderedDict[str, set[str]] = OrderedDict()
        self.collectors: tuple[Collector, ...] = (self._streams, self._up)

    def ended(self, replica: str, outcome: str) -> None:
        outcomes = self._outcomes.setdefault(replica, set())
        outcomes.add(outcome)
        self._outcomes.move_to_end(replica)
        self._streams.labels(replica, outcome).inc()
        if len(self._outcomes) > _REPLICAS_KEPT:
            forgotten, outcomes = self._outcomes.popitem(last=False)
            for name in outcomes:
                self._streams.remove(forgotten, name)

    def is_up(self, address: str, up: bool) -> None:
        self._up.labels(address).set(up)
