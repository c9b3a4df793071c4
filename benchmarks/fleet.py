"""Servers, gateways and replicas as processes of this machine, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
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
    """A network namespace behind a router, another namespace, that drops packets both ways.

    `nft` drops them, because a forwarded packet is lost without its sender's knowledge; `tc netem`
    is no part of every kernel.
    """

    THERE = "10.213.7.6"

    def __init__(self, percent: int) -> None:
        """Raises `SystemExit` where the system does not allow it."""
        self._names = router, there = f"ttsr{os.getpid()}", f"ttst{os.getpid()}"
        steps = f"""
            ip netns add {router}
            ip netns add {there}
            ip link add {router} type veth peer name near netns {router}
            ip -n {router} link add far type veth peer name back netns {there}
            ip address add 10.213.7.1/30 dev {router}
            ip link set {router} up
            ip route add 10.213.7.4/30 via 10.213.7.2
            ip -n {router} address add 10.213.7.2/30 dev near
            ip -n {router} address add 10.213.7.5/30 dev far
            ip -n {router} link set near up
            ip -n {router} link set far up
            ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1
            ip netns exec {router} nft add table ip t
            ip netns exec {router} nft "add chain ip t f {{ type filter hook forward priority 0; }}"
            ip netns exec {router} nft add rule ip t f numgen random mod 100 < {percent} drop
            ip -n {there} address add {self.THERE}/30 dev back
            ip -n {there} link set back up
            ip -n {there} link set lo up
            ip -n {there} route add default via 10.213.7.5
        """
        for step in steps.strip().splitlines():
            try:
                done = subprocess.run(
                    shlex.split(step), capture_output=True, text=True, check=False
                )
                problem = done.stderr.strip() if done.returncode else ""
            except OSError as error:
                problem = str(error)
            if problem:
                self.close()
                raise SystemExit(f"no lossy link here: {step.strip()}: {problem}")
        self.before = ("ip", "netns", "exec", there)

    def close(self) -> None:
        for name in self._names:  # the interfaces go with them
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


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
