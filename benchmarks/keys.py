"""What counting and limits of keys cost: CPU and delay of a message with and without.

    python benchmarks/keys.py [--rounds N] [--paced N] [--kills N]

One process has two servers whose engine hands out ready samples, 80 ms at a time: one knows 64
`--api-key`s, which have no name and nothing to count; the other has 64 named keys with a limit of
every kind. 32 sockets ask each in turn, a key for each request, so that whatever else the machine
does meets both.

* counting: CPU of what is done for each message alone, which a busy machine disturbs least; and
  what the thread writes twice a second for 64 keys.
* CPU: the process's CPU time over the messages that were sent, for each round; the engine does not
  wait, so that a round is nothing but work. The figure is the middle one of the rounds' ratios.
* delay: a message's way from the engine to the client, for streams that are paced as real ones are
  (`--paced`, rounds of 5 s).
* kills: a server that speaks to four sockets is killed while it does (`--kills`). How long before
  that had everything been written that its clients heard?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import secrets
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from tts_provider.audio.pcm import from_s16
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.keys.counts import Counts, Place, Usage, read_usage
from tts_provider.keys.ring import KeyRing
from tts_provider.keys.store import MAX_LIMIT, KeyStore, Limits
from tts_provider.server.lifecycle import Server
from tts_provider.speech.engine import Sound, Utterance

KEYS, SOCKETS, CHUNKS = 64, 32, 60
CHUNK_SAMPLES = 1920
TEXT = "The train to the coast leaves early in the morning."


class ReadyEngine(EspeakEngine):
    """Chunks that carry the time they left: at once, or paced by a clock."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("nothing to load")

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        start = time.monotonic()
        for number in range(CHUNKS):
            await asyncio.sleep(max(0.0, start + number * self._chunk_s - time.monotonic()))
            samples = np.full(CHUNK_SAMPLES, 0.25, np.float32)
            samples[:4] = from_s16(struct.pack("<Q", time.monotonic_ns()))
            yield Sound(samples)


def serve(folder: str, keys: list[str], pipe: Connection) -> None:
    """Two servers for each pace: without names, with names; then CPU seconds for each question."""

    async def run() -> None:
        servers, tasks = [], []
        for chunk_s in (0.0, 0.08):
            for name, settings in (("none", {"api_keys": ",".join(keys)}), ("named", {})):
                wanted = Settings(
                    host="127.0.0.1",
                    port=0,
                    max_ahead_s=1e6,
                    data_dir=Path(folder) / name,
                    _env_file=None,
                    **settings,
                )
                servers.append(Server(ReadyEngine(chunk_s), wanted))
                tasks.append(asyncio.create_task(servers[-1].run()))
                await servers[-1].listening.wait()
        pipe.send([server.port for server in servers])
        while await asyncio.to_thread(pipe.recv):
            pipe.send(time.process_time())
        for server in servers:
            server.stop()
        await asyncio.gather(*tasks)

    asyncio.run(run())


async def ask(port: int, keys: list[str]) -> list[float]:
    """Each socket asks with its two keys, one after the other: the delay of each message, in ms."""

    async def client(own: list[str]) -> list[float]:
        delays = []
        for key in own:
            headers = {"X-API-Key": key}
            url = f"ws://127.0.0.1:{port}"
            async with connect(
                url, compression=None, max_size=None, additional_headers=headers
            ) as socket:
                await socket.send(json.dumps({"text": TEXT, "stream": True}))
                while True:
                    message = await socket.recv()
                    if isinstance(message, bytes):
                        now = time.monotonic_ns()
                        # Chunks are joined as a stream goes on; the newest ended the message.
                        newest = message[-CHUNK_SAMPLES * 2 :][:8]
                        delays.append((now - struct.unpack("<Q", newest)[0]) / 1e6)
                    elif json.loads(message)["status"] != "streaming":
                        assert json.loads(message)["status"] == "success", message
                        break
        return delays

    asked = [client(keys[n::SOCKETS]) for n in range(SOCKETS)]
    return [delay for delays in await asyncio.gather(*asked) for delay in delays]


def print_counting(folder: Path) -> None:
    """On this thread; `Counts` writes when it is told to."""
    ring = KeyRing(folder=folder)
    counts = Counts(folder, lambda: ring.has_names)
    places = [Place(f"key-{number}", "female", "espeak") for number in range(KEYS)]
    adds, writes = [], []
    for _ in range(15):
        start_s = time.thread_time()
        for number in range(20_000):
            counts.add(places[number % KEYS], Usage(audio_samples=CHUNK_SAMPLES))
        adds.append((time.thread_time() - start_s) / 20_000)
        start_s = time.thread_time()
        counts.write()
        writes.append(time.thread_time() - start_s)
    counts.close()
    ring.close()
    print(f"counting a message: {1e6 * statistics.median(adds):.2f} µs of CPU")
    print(f"writing twice a second, each time: {1e3 * statistics.median(writes):.2f} ms of CPU")


class KilledServer:
    """What its clients heard, and when it was killed."""

    def __init__(self, folder: Path, key: str) -> None:
        command = [sys.executable, "-m", "tts_provider", "serve", "--host", "127.0.0.1"]
        command += ["--port", "0", "--engine", "espeak", "--data-dir", str(folder)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._headers = {"X-API-Key": key}
        self.heard: list[tuple[float, int]] = []
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"listening on (ws://\S+),", line):
                self._url = found[1]
                break
        # Nobody would read it else, and the server would wait for that.
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    async def run(self, after_s: float) -> None:
        asking = [asyncio.create_task(self._ask()) for _ in range(4)]
        await asyncio.sleep(after_s)
        self._process.kill()
        self.killed_s = time.monotonic()
        await asyncio.gather(*asking, return_exceptions=True)
        self._process.wait()

    async def _ask(self) -> None:
        async with connect(
            self._url, compression=None, max_size=None, additional_headers=self._headers
        ) as socket:
            while True:
                request = {"text": 60 * (TEXT + " "), "stream": True, "format": "pcm"}
                await socket.send(json.dumps(request))
                while True:
                    message = await socket.recv()
                    if isinstance(message, bytes):
                        self.heard.append((time.monotonic(), len(message) // 2))
                    elif json.loads(message)["status"] != "streaming":
                        break


def print_kills(folder: Path, kills: int) -> None:
    with KeyStore(folder) as store:
        key = store.add("killed")
    before, lost_s = 0, []
    for kill in range(kills):
        server = KilledServer(folder, key)
        asyncio.run(server.run(2.0 + 0.17 * kill))
        counted = sum(row.amount.audio_samples for row in read_usage(folder, name="killed"))
        left = counted - before
        before = counted
        lost_s.append(0.0)
        for came_s, samples in server.heard:
            left -= samples
            if left < 0:
                lost_s[-1] = server.killed_s - came_s
                break
    print(f"{kills} kills: all was counted that came {max(lost_s):.2f} s before, or earlier")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--paced", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--kills", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(MAX_LIMIT, MAX_LIMIT, MAX_LIMIT)
        with KeyStore(Path(folder) / "named") as store:
            named = [store.add(f"key-{n}", limits=limits) for n in range(KEYS)]
        print_counting(Path(folder) / "named")
        if arguments.kills:
            print_kills(Path(folder) / "killed", arguments.kills)
        plain = [secrets.token_urlsafe(32) for _ in range(KEYS)]
        (Path(folder) / "none").mkdir()
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=serve, args=(folder, plain, theirs))
        process.start()
        ports = pipe.recv()

        def cpu_s() -> float:
            pipe.send(True)
            used_s: float = pipe.recv()
            return used_s

        def cpu_us(port: int, keys: list[str]) -> float:
            before_s = cpu_s()
            messages = len(asyncio.run(ask(port, keys)))
            return 1e6 * (cpu_s() - before_s) / messages

        sides = ((ports[0], plain), (ports[1], named))
        for side in sides:
            cpu_us(*side)  # the first requests import and cache
        pairs = []
        for number in range(arguments.rounds):
            order = sides if number % 2 == 0 else sides[::-1]
            found = {side[0]: cpu_us(*side) for side in order}
            pairs.append((found[ports[0]], found[ports[1]]))
        without, with_ = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"CPU a message, without: {without:.1f} µs, with: {with_:.1f} µs")
        low, _, high = statistics.quantiles((b / a for a, b in pairs), n=4)
        print(
            f"ratio, middle of {len(pairs)} rounds: {ratio:.3f}, half of them {low:.3f}-{high:.3f}"
        )
        if arguments.paced:
            delays: tuple[list[float], list[float]] = [], []
            for number in range(2 * arguments.paced):
                side = number % 2
                keys = (plain, named)[side][:SOCKETS]
                delays[side].extend(asyncio.run(ask(ports[2 + side], keys)))
            for name, values in zip(("without", "with"), delays, strict=True):
                p50, p99 = np.percentile(values, [50, 99])
                print(f"delay {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(values)}")
        pipe.send(False)
        process.join()


if __name__ == "__main__":
    main()
