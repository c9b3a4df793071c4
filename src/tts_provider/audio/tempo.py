"""Faster or slower speech at the same pitch: FFmpeg's `atempo`, as the samples come."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import av.filter
import numpy as np

from tts_provider.audio.pcm import Samples

SLOWEST, FASTEST = 0.25, 4.0
# The output of `atempo` depends on how its input is cut, so it is always cut alike.
_BLOCK_MS = 20


class Tempo:
    """Changes the tempo of a stream; `speed` 2 takes half the time, 1 passes everything through."""

    def __init__(self, rate: int, speed: float) -> None:
        assert SLOWEST <= speed <= FASTEST
        self._rate = rate
        self._block = rate * _BLOCK_MS // 1000
        self._held = np.zeros(0, np.float32)
        self._samples = 0
        self._graph = None if speed == 1 else _graph(rate, speed)

    def push(self, samples: Samples) -> Samples:
        """The output that `samples` (n,) completes, (m,)."""
        if self._graph is None:
            return samples
        self._held = np.concatenate([self._held, samples.astype(np.float32, copy=False)])
        while len(self._held) >= self._block:
            self._graph.push(self._frame(self._held[: self._block]))
            self._held = self._held[self._block :]
        return _pull(self._graph)

    def finish(self) -> Samples:
        """The rest."""
        if self._graph is None:
            return self._held
        if len(self._held):
            self._graph.push(self._frame(self._held))
        if self._samples:
            self._graph.push(None)
        return _pull(self._graph)

    def _frame(self, samples: Samples) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._samples
        self._samples += len(samples)
        return frame


def _pull(graph: av.filter.Graph) -> Samples:
    made = [np.zeros(0, np.float32)]
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):  # it wants more, or has given everything
            return np.concatenate(made)
        assert isinstance(frame, av.AudioFrame)
        made.append(frame.to_ndarray()[0])


def _graph(rate: int, speed: float) -> av.filter.Graph:
    # One `atempo` cannot be slower than a half, and above 2 it skips samples instead of blending
    # them. https://ffmpeg.org/ffmpeg-filters.html#atempo
    steps = max(1, math.ceil(abs(math.log2(speed))))
    graph = av.filter.Graph()
    nodes = [
        graph.add_abuffer(sample_rate=rate, format="flt", layout="mono"),
        *(graph.add("atempo", repr(speed ** (1 / steps))) for _ in range(steps)),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph
