"""Ends what a test process leaves running, even where that process was killed.

A test process starts this file as a program before any test. From then on each process that a test
starts carries a mark in its environment. The program reads the names of tests from standard input;
when that closes, the test process has ended, in whatever way, and every process with the mark is
killed. `end_processes` needs Linux's /proc; elsewhere nothing is found and nothing ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "PROCESS_OF_TEST"
_FINISHED = "finished"


class ProcessGuard:
    """Watches this process; `running` tells it which test is under way."""

    def __init__(self) -> None:
        self._mark = f"{os.getpid()}-{time.time_ns()}"
        unmarked = {name: value for name, value in os.environ.items() if name != MARK}
        # A session of its own: neither Ctrl-C in the terminal nor what kills our group ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self._mark],
            stdin=subprocess.PIPE,
            env=unmarked,
            text=True,
            start_new_session=True,
        )
        os.environ[MARK] = self._mark

    def running(self, test: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody killed it: tests go on without
            self._process.stdin.write(test.replace("\n", " ") + "\n")
            self._process.stdin.flush()

    def end_children(self) -> list[str]:
        return end_processes(self._mark)

    def close(self) -> None:
        self.running(_FINISHED)
        os.environ.pop(MARK, None)
        self._process.communicate()


def end_processes(mark: str) -> list[str]:
    """Kill every process whose environment has the mark; returns the command of each."""
    entry = f"{MARK}={mark}".encode()
    ended = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is somebody else's
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                command = (
                    (folder / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                )
                os.kill(int(folder.name), signal.SIGKILL)
                ended.append(command.strip())
    return ended


def _main() -> None:
    last = ""
    for line in sys.stdin:
        last = line.strip()
    if last not in ("", _FINISHED):
        sys.stderr.write(f"\nthe test process ended while it ran {last}\n")
    end_processes(sys.argv[1])


if __name__ == "__main__":
    _main()
