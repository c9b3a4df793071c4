"""For every test: a time limit, a reason for being slow, and skips summed up by reason."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator

import pytest

pytest_plugins = ["time_limit"]

# For PyTorch and Whisper, here and in the servers that tests start. Their threads wait for each
# other by spinning: on two busy cores two threads took eight times the CPU time of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_LEAST_WORDS = 6


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "slow(reason): not in `make test`; what it costs, and what it guards"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises `UsageError` naming each test that is slow without a reason."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Models that a module had loaded are given back before the next loads its own."""
    try:
        return (yield)
    finally:
        if nextitem is not None and nextitem.path != item.path:
            gc.collect()
            if sys.platform == "linux":
                ctypes.CDLL(None).malloc_trim(0)


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
