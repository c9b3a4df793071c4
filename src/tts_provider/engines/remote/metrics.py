"""What gateways count of their replicas, and replicas count and log of their streams."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from tts_provider.engines.remote.frames import Frame, SamplesFrame
from tts_provider.errors import WireError
from tts_provider.speech.engine import SAMPLE_RATE

log = logging.getLogger(__name__)

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


_REPLICAS_KEPT = 256
"""Replicas that come and go have new names; those not heard of longest are forgotten."""


class GatewayMetrics:
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
        self._rescues = Counter(
            "tts_remote_rescues",
            "Passages that a second replica was asked too, in whose place, and how that ended.",
            ["kind", "outcome"],
            registry=None,
        )
        for kind in ("first_audio", "middle"):  # which begin at 0, so that rates are known
            for outcome in ("won", "lost"):
                self._rescues.labels(kind, outcome)
        self._shares = Gauge(
            "tts_remote_share",
            "Of an address without a fault's requests; below 0.2 it is set aside.",
            ["address"],
            registry=None,
        )
        self._outcomes: OrderedDict[str, set[str]] = OrderedDict()
        self.collectors: tuple[Collector, ...] = (
            self._streams,
            self._up,
            self._rescues,
            self._shares,
        )

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

    def rescued(self, kind: str, outcome: str) -> None:
        self._rescues.labels(kind, outcome).inc()

    def show_share(self, address: str, share: Callable[[], float]) -> None:
        self._shares.labels(address).set_function(share)


class ReplicaMetrics:
    def __init__(self, active: Callable[[], float], is_ready: Callable[[], bool]) -> None:
        self._registry = registry = CollectorRegistry()
        streams = Gauge("tts_active_streams", "Passages being spoken.", registry=registry)
        streams.set_function(active)
        ready = Gauge("tts_ready", "1 while passages are taken.", registry=registry)
        ready.set_function(lambda: float(is_ready()))
        self._passages = Counter(
            "tts_passages", "Passages by how they ended.", ["outcome"], registry=registry
        )
        self._first_audio_s = Histogram(
            "tts_time_to_first_audio_seconds",
            "From a passage's arrival to its first audio.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._audio_s = Counter("tts_audio_seconds", "Seconds of audio made.", registry=registry)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)

    async def watch(
        self, frames: AsyncGenerator[Frame, None], voice: str
    ) -> AsyncGenerator[Frame, None]:
        """The same frames of one passage, counted; how they end is its outcome."""
        arrived_s, first_audio_s = time.monotonic(), None
        samples, outcome = 0, "failed"
        try:
            async with aclosing(frames):
                async for frame in frames:
                    if isinstance(frame, SamplesFrame):
                        if first_audio_s is None:
                            first_audio_s = time.monotonic() - arrived_s
                            self._first_audio_s.observe(first_audio_s)
                        samples += len(frame.samples)
                        self._audio_s.inc(len(frame.samples) / SAMPLE_RATE)
                    yield frame
            outcome = "spoken"
        except WireError as problem:
            outcome = problem.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            self._passages.labels(outcome).inc()
            log.info(
                "passage",
                extra={
                    "outcome": outcome,
                    "voice": voice,
                    "first_audio_ms": None
                    if first_audio_s is None
                    else round(first_audio_s * 1000, 1),
                    "audio_ms": samples * 1000 // SAMPLE_RATE,
                },
            )
