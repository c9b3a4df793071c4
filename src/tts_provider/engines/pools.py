"""Threads that compute utterances: some for listeners, some for background work."""

from __future__ import annotations

import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property

from tts_provider.cpus import give_way


class Pools:
    """A pool for listeners and one for background work, with equally many threads."""

    def __init__(self, threads: int, name: str) -> None:
        self._count, self._name = threads, name
        self.listened = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def of(self, *, is_background: bool) -> Executor:
        return self._background if is_background else self.listened

    @cached_property
    def _background(self) -> ThreadPoolExecutor:
        """Its threads give way to every other one within the operating system's own turn, which is
        milliseconds: whoever listens does not wait for the end of a job. Where only a process has
        a priority (macOS, Windows), half of the threads leave cores free instead."""
        has_priorities = sys.platform == "linux"
        count = self._count if has_priorities else max(1, self._count // 2)
        return ThreadPoolExecutor(
            count,
            thread_name_prefix=f"{self._name}-background",
            initializer=give_way if has_priorities else None,
        )

    def close(self) -> None:
        """Wait for what is being computed; cancel what has not begun."""
        self.listened.shutdown(cancel_futures=True)
        if "_background" in self.__dict__:
            self._background.shutdown(cancel_futures=True)
