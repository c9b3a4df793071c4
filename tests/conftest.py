"""For every test: a time limit, a reason for being slow, and skips summed up by reason."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from hypothesis import settings

from forks import fork_subprocesses_of_asyncio

pytest_plugins = ["time_limit"]

# For PyTorch and Whisper, here and in the servers that tests start. Their threads wait for each
# other by spinning: on two busy cores two threads took eight times the CPU time of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test fails because the machine is busy.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

WITH_PYTORCH = (
    "tests/engines/csm/",
    "tests/audio/watermark/test_network.py",
    "tests/audio/watermark/test_weights.py",
    "tests/cli/test_voices_adapters.py",
)
_LEAST_WORDS = 6
_MOST_LEFT_MIB = 50
_kept_mib = 0
# <malloc.h>
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def pytest_configure(config: pytest.Config) -> None:
    # Reading the system's certificates takes 20 ms, for each of the thousands of HTTP clients here,
    # and nearly none of them speaks TLS.
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
    fork_subprocesses_of_asyncio()
    give_large_arrays_back()
    config.addinivalue_line(
        "markers", "slow(reason): not in `make test`; what it costs, and what it guards"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may want PyTorch comes first, so that one worker of several loads it, and no other: each
    begins with its part of the list. Raises `UsageError` naming each test that is slow without a
    reason.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(WITH_PYTORCH))
    unreasoned = sorted(
        {
            item.nodeid
            for item in items
            for marker in item.iter_markers("slow")
            if not (marker.args and len(str(marker.args[0]).split()) >= _LEAST_WORDS)
        }
    )
    if unreasoned:
        raise pytest.UsageError(
            'a slow test says what it costs and what it guards, as in @pytest.mark.slow("20 s: '
            'the only test that fills a bucket of 100 voices"); these do not: '
            + ", ".join(unreasoned)
        )


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was imported stays, and need not be looked through again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Models are given back before others are loaded: Python does not know how large they are."""
    global _kept_mib
    try:
        return (yield)
    finally:
        let_go_of_frames(item)
        if (resident := resident_mib()) > _kept_mib + _MOST_LEFT_MIB:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            _kept_mib = resident_mib()
        else:
            _kept_mib = min(_kept_mib, resident)


def give_large_arrays_back() -> None:
    """glibc keeps a heap for each thread, and after the first large array is freed it keeps even
    those within a heap: with models of many tests, 100 MB that nobody uses."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)


def let_go_of_frames(item: pytest.Item) -> None:
    """An error that is a parameter, and was raised, has frames, and all that is in them."""
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, BaseException):
            value.__traceback__ = value.__context__ = value.__cause__ = None


def resident_mib() -> int:
    """What this process has in memory; 0 elsewhere than on Linux."""
    if sys.platform != "linux":
        return 0
    import resource  # Unix only

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a test printed may have half a character in it, which pytest-xdist cannot carry."""
    return encodable((yield))


def encodable(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: encodable(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(encodable, data))
    return data


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skips by reason: what to install for how many tests."""
    reasons = Counter(
        str(
            report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        ).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.section("skipped", bold=True)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4} {'test ' if count == 1 else 'tests'}  {reason}")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that are started end with SIGINT, as on a terminal.

    What a script starts in the background ignores SIGINT, and so does what it starts itself.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
