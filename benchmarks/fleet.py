"""Servers, gateways and replicas as processes of this machine, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

FAULTS = ("none", "frozen", "throttled", "killed", "lossy")
_SLICE_S = 0.1
_SHARE = 0.1
"""A throttled process runs for a tenth of the time."""


class Program:
    """`tts-provider …`, ready."""

    def __init__(self, *arguments: str, before: Sequence[str] = ()) -> None:
        """`before` is a command that starts it: `ip netns exec NAME`."""
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        home = Path(self._folder.name)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TTS_PROVIDER_")}
        self._log: list[str] = []
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "tts_provider", *arguments],
            cwd=home,
            env={**kept, "HOME": str(home)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._wait_for(r"listening on \S+:(\d+)"))
        self._wait_for("(ready): ")
        # Whoever reads no log of a process stops it when its pipe is full.
        threading.Thread(target=self._read_on, daemon=True).start()

    def _wait_for(self, pattern: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)
            if (found := re.search(pattern, line)) is not None:
                return found.group(1)
        raise SystemExit("".join(self._log))

    def _read_on(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)

    @property
    def log(self) -> str:
        return "".join(self._log)

    def cpu_s(self) -> float:
        """Of a process that was killed, 0."""
        if self.process.poll() is not None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def stop(self) -> None:
        self.send(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()


def start_replica(
    engine: str, host: str = "127.0.0.1", port: int = 0, before: Sequence[str] = ()
) -> Program:
    flags = ["--host", host, "--port", str(port), "--max-streams", "32"]
    return Program("replica", "--engine", engine, *flags, before=before)


class LossyLink:
    """A network namespace behind a pair of interfaces that lose packets, both ways."""

    HERE, THERE = "10.213.7.1", "10.213.7.2"

    def __init__(self, percent: float) -> None:
        """Raises `SystemExit` where the system does not allow it."""
        self._name = name = f"tts{os.getpid()}"
        loss = ["netem", "loss", f"{percent:g}%"]
        inside = ["ip", "netns", "exec", name]
        steps = [
            ["ip", "netns", "add", name],
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "there", "netns", name],
            ["ip", "address", "add", f"{self.HERE}/30", "dev", name],
            ["ip", "link", "set", name, "up"],
            [*inside, "ip", "address", "add", f"{self.THERE}/30", "dev", "there"],
            [*inside, "ip", "link", "set", "there", "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
            ["tc", "qdisc", "add", "dev", name, "root", *loss],
            [*inside, "tc", "qdisc", "add", "dev", "there", "root", *loss],
        ]
        for step in steps:
            try:
                done = subprocess.run(step, capture_output=True, text=True, check=False)
                problem = done.stderr.strip() if done.returncode else ""
            except OSError as error:
                problem = str(error)
            if problem:
                self.close()
                raise SystemExit(f"no lossy link here: {' '.join(step)}: {problem}")
        self.before = tuple(inside)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the interfaces go with it
            subprocess.run(["ip", "netns", "del", self._name], capture_output=True, check=False)


def start_server(engine: str, *flags: str) -> Program:
    common = ["--host", "127.0.0.1", "--port", "0", "--max-streams", "64"]
    return Program("serve", "--engine", engine, *common, *flags)


def start_gateway(urls: list[str], *flags: str) -> Program:
    return start_server("remote", *(f"--engine-url={url}" for url in urls), *flags)


@contextlib.contextmanager
def fault(kind: str, replica: Program) -> Iterator[None]:
    """What is wrong with it meanwhile; a killed one stays dead, and links are not ours to harm."""
    done = threading.Event()

    def throttle() -> None:
        while not done.is_set():
            replica.send(signal.SIGSTOP)
            time.sleep(_SLICE_S * (1 - _SHARE))
            replica.send(signal.SIGCONT)
            time.sleep(_SLICE_S * _SHARE)

    thread = threading.Thread(target=throttle)
    if kind == "frozen":
        replica.send(signal.SIGSTOP)
    elif kind == "killed":
        replica.send(signal.SIGKILL)
    elif kind == "throttled":
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        replica.send(signal.SIGCONT)
