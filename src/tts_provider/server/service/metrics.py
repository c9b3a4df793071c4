"""The server's metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_RATIOS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1, 1.5, 2, 5, 10)


class Metrics:
    """One server's counters, in a registry of their own."""

    def __init__(self, *, by_key: bool = False) -> None:
        """`by_key` counts each named key separately, which makes as many series."""
        self._registry = CollectorRegistry()
        options: dict[str, Any] = {"namespace": "tts", "registry": self._registry}
        self.requests = Counter(
            "requests",
            "Requests by outcome and endpoint: basic is /, session is /v1/stream.",
            ["endpoint", "outcome"],
            **options,
        )
        self.errors = Counter("errors", "Errors told to clients, by code.", ["code"], **options)
        self.connections = Gauge("connections", "Open WebSocket connections.", **options)
        self.ready = Gauge("ready", "1 while requests are served.", **options)
        self._active = Gauge("active_streams", "Requests being spoken.", **options)
        self._queued = Gauge("queued_requests", "Requests waiting for a stream.", **options)
        self.first_audio_s = Histogram(
            "time_to_first_audio_seconds",
            "From a request's arrival to its first audio, waiting included.",
            buckets=_SECONDS,
            **options,
        )
        self.audio_s = Counter("audio_seconds", "Seconds of audio made.", **options)
        self.real_time_factor = Histogram(
            "real_time_factor",
            "Seconds from a request's start to its last audio, per second of audio.",
            buckets=_RATIOS,
            **options,
        )

        self._key_requests = self._key_characters = self._key_audio_s = None
        if by_key:
            self._key_requests = Counter(
                "key_requests", "Requests by key and outcome.", ["key", "outcome"], **options
            )
            self._key_characters = Counter(
                "key_characters", "Characters to speak, by key.", ["key"], **options
            )
            self._key_audio_s = Counter(
                "key_audio_seconds", "Seconds of audio made, by key.", ["key"], **options
            )

    def count_key(self, key: str | None, outcome: str, characters: int, audio_s: float) -> None:
        """Count what a request or context of this key cost, when it is over."""
        if key is not None and self._key_requests and self._key_characters and self._key_audio_s:
            self._key_requests.labels(key, outcome).inc()
            self._key_characters.labels(key).inc(characters)
            self._key_audio_s.labels(key).inc(audio_s)

    def watch_admission(self, active: Callable[[], float], queued: Callable[[], float]) -> None:
        self._active.set_function(active)
        self._queued.set_function(queued)

    def register(self, collector: Collector) -> None:
        """Add the metrics of another module."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)
