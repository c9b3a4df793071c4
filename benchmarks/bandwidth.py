"""How fast this machine's memory is read at the moment: what a CPU's weights can cost at best."""

from __future__ import annotations

import threading
import time

import numpy as np

_BYTES = 256 * 1024 * 1024  # of each thread: far beyond any cache that two cores have to themselves
_PASSES = 8


class Probe:
    """Some memory and threads that read it; a machine shared with others changes by the minute."""

    def __init__(self, threads: int) -> None:
        self._parts = [np.ones(_BYTES // 4, np.float32) for _ in range(threads)]

    def gb_per_s(self) -> float:
        """The best of a few passes in which every thread reads its part, 0.1 s each."""
        return max(self._pass() for _ in range(_PASSES))

    def _pass(self) -> float:
        start = threading.Barrier(len(self._parts) + 1)

        def read(part: np.ndarray) -> None:
            start.wait()
            part.max()

        threads = [threading.Thread(target=read, args=(part,)) for part in self._parts]
        for thread in threads:
            thread.start()
        start.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        return len(threads) * _BYTES / (time.perf_counter() - began) / 1e9
