"""What a gateway costs: the same engine in the server, behind a replica, and behind Ray Serve.

The engine makes 80 ms every 80 ms and stamps each chunk with the time it left; servers, replicas
and clients are processes of this machine, and the ways take turns in one run.

    python benchmarks/scale_out.py
    python benchmarks/scale_out.py --ray          with .venv/ray: make .venv/ray/stamp
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from server import FRAME_S, ClockEngine, summary
from tts_provider.config import Settings
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.replica import Replica
from tts_provider.server.lifecycle import Server, bind, listen
from tts_provider.server.transport.http import http_protocol
from tts_provider.speech.engine import Sound, Utterance

TEXT = "Hello there. I go on for a while."
SHORT_TEXT = "Hello."
CHUNK_BYTES = 1920 * 2
STREAMS = 32


def run_server(pipe: Connection, urls: tuple[str, ...], key: str | None) -> None:
    async def run() -> None:
        engine = RemoteEngine(urls, key) if urls else PacedEngine()
        server = Server(engine, Settings(host="127.0.0.1", port=0, max_streams=64, _env_file=None))
        running = asyncio.create_task(server.run())
        await server.listening.wait()
        await server.service.admission.wait_open()
        pipe.send(server.port)
        await asyncio.to_thread(pipe.recv)
        server.stop()
        await running

    asyncio.run(run())


def run_replica(pipe: Connection, urls: tuple[str, ...], key: str | None) -> None:
    async def run() -> None:
        replica = Replica(PacedEngine(), None, name="replica", max_streams=64)
        replica.open()
        listeners = bind("127.0.0.1", 0)
        listen(listeners, "127.0.0.1")
        config = uvicorn.Config(
            replica,
            http=http_protocol(10.0, 1000),
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(listeners))
        pipe.send(listeners[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        server.should_exit = True
        await serving

    asyncio.run(run())


class PacedEngine(ClockEngine):
    """60 chunks of a text, 3 of the short one."""

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        chunks, left = super().speak(utterance), 3 if utterance.text == SHORT_TEXT else 60
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                left -= 1
                if not left:
                    return


class Process:
    """A server or a replica, and the CPU time that it took."""

    def __init__(self, main: Any, urls: tuple[str, ...] = (), key: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, urls, key))
        self._process.start()
        theirs.close()
        self.port: int = self._pipe.recv()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        if self._process.is_alive():
            with contextlib.suppress(BrokenPipeError):
                self._pipe.send("stop")
            self._process.join(20)
        self._process.kill()
        self._process.join()


class Everybody:
    """Python 3.10 has no `asyncio.Barrier`."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._all = asyncio.Event()

    async def ready(self) -> None:
        """Until everybody is."""
        self._missing -= 1
        if not self._missing:
            self._all.set()
        await self._all.wait()


async def listen_to(url: str, delay_s: float, everybody: Everybody) -> tuple[float, list[float]]:
    """One paced stream, when everybody has had a short one: milliseconds to its first audio, and
    from leaving the engine to being here for each message after that."""
    async with connect(url, compression=None, max_size=None) as socket:
        await hear(socket, SHORT_TEXT)
        await everybody.ready()
        await asyncio.sleep(delay_s)
        return await hear(socket, TEXT)


async def hear(socket: ClientConnection, text: str) -> tuple[float, list[float]]:
    asked_s, first_ms, delays = time.monotonic(), None, list[float]()
    await socket.send(json.dumps({"text": text, "stream": True}))
    while True:
        message = await socket.recv()
        if isinstance(message, str):
            body = json.loads(message)
            if body["status"] == "success":
                assert first_ms is not None
                return first_ms, delays[1:]
            assert body["status"] == "streaming", body
            continue
        now_ns = time.monotonic_ns()
        first_ms = first_ms or 1000 * (time.monotonic() - asked_s)
        # The pipeline joins chunks as a stream goes on; the newest one ended the message.
        stamp = message[-CHUNK_BYTES:][:8]
        delays.append((now_ns - struct.unpack("<Q", stamp)[0]) / 1e6)


async def first_audio(url: str, requests: int) -> list[float]:
    """One short request after the other on one connection."""
    async with connect(url, compression=None, max_size=None) as socket:
        return [(await hear(socket, SHORT_TEXT))[0] for _ in range(requests)]


async def many(url: str) -> tuple[list[float], list[float]]:
    everybody = Everybody(STREAMS)
    heard = await asyncio.gather(
        *(listen_to(url, 2 * FRAME_S * number / STREAMS, everybody) for number in range(STREAMS))
    )
    return [first for first, _ in heard], [d for _, delays in heard for d in delays]


async def time_to_know(url: str, pid: int, blow: signal.Signals) -> float:
    """Milliseconds from a replica's loss in the middle of a stream to the client's error."""
    async with connect(url, compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"text": TEXT, "stream": True}))
        for _ in range(4):
            await socket.recv()
        lost_s = time.monotonic()
        os.kill(pid, blow)
        while True:
            message = await socket.recv()
            if isinstance(message, str) and json.loads(message)["status"] == "error":
                assert json.loads(message)["code"] == "engine_lost"
                return 1000 * (time.monotonic() - lost_s)


@contextlib.contextmanager
def ways(with_ray: bool) -> Iterator[dict[str, Process]]:
    """The servers to compare, by name."""
    with contextlib.ExitStack() as stack:

        def started(main: Any, urls: tuple[str, ...] = (), key: str | None = None) -> Process:
            process = Process(main, urls, key)
            stack.callback(process.stop)
            return process

        replica = started(run_replica)
        servers = {
            "in process": started(run_server),
            "remote": started(run_server, (f"http://127.0.0.1:{replica.port}",)),
        }
        if with_ray:
            url, key = stack.enter_context(ray_cluster())
            servers["Ray Serve"] = started(run_server, (url,), key)
        yield servers


@contextlib.contextmanager
def ray_cluster() -> Iterator[tuple[str, str]]:
    """Ray on 127.0.0.2 with one replica of the same engine; its address and key."""
    root = Path(__file__).resolve().parent.parent
    sys.path.append(str(root / "tests"))
    from engines.remote.ray_cluster import KEY, RayCluster, why_no_ray

    if (reason := why_no_ray()) is not None:
        raise SystemExit(reason)
    cluster = RayCluster()
    cluster.environment["PYTHONPATH"] = str(root / "benchmarks")
    try:
        cluster.start()
        cluster.deploy(
            import_path="ray_clock:build",
            num_replicas=1,
            max_ongoing_requests=64,
            max_queued_requests=64,
        )
        cluster.wait_running(1)
        yield cluster.url, KEY
    finally:
        cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ray", action="store_true", help="also behind Ray Serve")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    machine = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("httpx2", "uvicorn", "websockets", "numpy")},
    }
    print(machine)
    rows: list[dict[str, Any]] = []
    figures: dict[str, dict[str, list[float]]] = {}
    with ways(arguments.ray) as servers:
        for _ in range(arguments.rounds):
            for name, server in servers.items():
                url, found = f"ws://127.0.0.1:{server.port}", figures.setdefault(name, {})
                alone = asyncio.run(first_audio(url, 50))[10:]
                before_s, began_s = server.cpu_s(), time.monotonic()
                firsts, delays = asyncio.run(many(url))
                share = 100 * (server.cpu_s() - before_s) / (time.monotonic() - began_s)
                for what, values in (
                    ("TTFA, one client", alone),
                    (f"TTFA, {STREAMS} streams", firsts),
                    (f"overhead a message, {STREAMS} streams", delays),
                    ("CPU of the server, % of a core", [share]),
                ):
                    found.setdefault(what, []).extend(values)
    print(f"{'what':42} {'n':>6} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for name, found in figures.items():
        for what, values in found.items():
            rows.append(summary(f"{name}: {what}", values))
    base, far = figures["in process"], figures["remote"]
    for what, percentile in ((f"TTFA, {STREAMS} streams", 95), ("TTFA, one client", 95)):
        added = np.percentile(far[what], percentile) - np.percentile(base[what], percentile)
        print(f"remote adds to {what}, p{percentile}: {added:.2f} ms")
    what = f"overhead a message, {STREAMS} streams"
    added = np.percentile(far[what], 99) - np.percentile(base[what], 99)
    print(f"remote adds to {what}, p99: {added:.2f} ms")
    for blow in (signal.SIGKILL, signal.SIGSTOP):
        replica = Process(run_replica)
        server = Process(run_server, (f"http://127.0.0.1:{replica.port}",))
        try:
            url = f"ws://127.0.0.1:{server.port}"
            known_ms = asyncio.run(time_to_know(url, replica.pid, blow))
            print(f"{blow.name}: the client knows after {known_ms:.0f} ms")
            rows.append({"what": f"{blow.name}, known after", "ms": known_ms})
        finally:
            os.kill(replica.pid, signal.SIGKILL)
            server.stop()
            replica.stop()
    if arguments.json:
        report = json.dumps({**machine, "rows": rows}, indent=2)
        Path(arguments.json).write_text(report + "\n", "utf-8")


if __name__ == "__main__":
    main()
