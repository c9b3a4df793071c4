"""A time limit for each test, so that no test can hang the run.

A test that takes longer, with its fixtures, fails alone. Its message has the place where each task
and thread waited, and the processes that it started are killed. `@pytest.mark.time_limit(seconds)`
sets another limit. Where Python's signal handlers do not run, as in a long call into C,
the process ends `_GRACE_S` later with every thread's stack; pytest-xdist then starts another.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any

import pytest

from process_guard import ProcessGuard

# The longest takes a tenth of it on quiet cores.
LIMIT_S = 180.0
_AGAIN_S = 15.0  # what outlives one failure, because a task or a `finally` took it, gets another
_GRACE_S = 60.0
_SHOWN_FRAMES = 6


class TimeLimit:
    """The plugin: a timer around each test."""

    def __init__(self, guard: ProcessGuard) -> None:
        self._guard = guard
        self._stderr = os.dup(2)  # tests' own is captured
        self._in_test = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        limit_s = limit_of(item)
        self._guard.running(item.nodeid)
        faulthandler.dump_traceback_later(limit_s + _GRACE_S, exit=True, file=self._stderr)
        alarm = self._set_alarm(item, limit_s)
        try:
            return (yield)
        finally:
            if alarm:
                signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        return (yield from self._phase())

    def _phase(self) -> Generator[None, object, object]:
        self._in_test = True  # an alarm elsewhere would be pytest's own error
        try:
            return (yield)
        finally:
            self._in_test = False

    def _set_alarm(self, item: pytest.Item, limit_s: float) -> bool:
        if (
            not hasattr(signal, "SIGALRM")
            or threading.current_thread() is not threading.main_thread()
        ):
            return False

        def fail(number: int, frame: FrameType | None) -> None:
            if self._in_test:
                places = "\n".join(waiting_places(frame))
                ended = "".join(f"\nended: {command}" for command in self._guard.end_children())
                cancel_test(item)
                pytest.fail(f"took more than {limit_s:g} s; it waited here:\n{places}{ended}")

        signal.signal(signal.SIGALRM, fail)
        signal.setitimer(signal.ITIMER_REAL, limit_s, _AGAIN_S)
        return True


def limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("time_limit")
    return float(marker.args[0]) if marker else LIMIT_S


def cancel_test(item: pytest.Item) -> None:
    """A failure leaves the event loop, but not the coroutine that it ran: that would go on."""
    for task in running_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is getattr(getattr(item, "function", None), "__code__", 0):
            task.cancel()


def running_tasks() -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        return set()


def waiting_places(frame: FrameType | None) -> Iterator[str]:
    """Tasks of the running loop, this thread, and the others; innermost frame last."""
    for task in running_tasks():
        yield f"task {task.get_name()}:"
        yield _lines(list(_coroutine_frames(task.get_coro())))
    main, current = threading.get_ident(), sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, top in {main: frame, **{i: f for i, f in current.items() if i != main}}.items():
        if top is not None:
            yield f"thread {names.get(ident, ident)}:"
            yield _lines([found for found, _ in traceback.walk_stack(top)][::-1])


def _coroutine_frames(coroutine: Any) -> Iterator[FrameType]:
    """What a suspended coroutine awaits, and so on; `Task.get_stack` has the first only."""
    while coroutine is not None:
        for kind, awaits in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if hasattr(coroutine, f"{kind}_frame"):
                if found := getattr(coroutine, f"{kind}_frame"):
                    yield found
                coroutine = getattr(coroutine, awaits)
                break
        else:
            return


def _lines(frames: list[FrameType]) -> str:
    return "\n".join(
        f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        for frame in frames[-_SHOWN_FRAMES:]
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): a limit of its own, with fixtures")
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        guard = ProcessGuard()
        config.add_cleanup(guard.close)
        config.pluginmanager.register(TimeLimit(guard), "time limit of each test")
