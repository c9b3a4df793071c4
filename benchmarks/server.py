"""Time to first audio, how many listen at once, and what the server adds to each chunk.

    python benchmarks/server.py [--json FILE]

The server runs in a process of its own; the clients speak to it over real sockets on loopback.

* TTFA: request sent → the first sample that can be heard, `stream: true`, one client and 32 at
  once; and in a speech session, from its first `input_text.append` with a first sentence in it. The
  listener plays from the first message on: silence before the first sound counts.
* streams: listeners who ask for the next sentence a second before they have heard the last one. How
  often was one left without audio? 32, 64, 96 and 128 of them, 15 s each.
* overhead: the server's time for one chunk beyond the engine: encoding, framing, sending. An engine
  that hands out ready samples, 80 ms at a time and paced by a clock as a real-time engine would,
  puts the moment each chunk leaves it into the chunk itself; the client compares that with the
  moment of arrival. Loopback and the client's own work are part of the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import struct
import time
from collections.abc import AsyncGenerator, Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from tts_provider.audio.pcm import from_s16, wav_data_at
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.selection import Choice, build_engine
from tts_provider.server.lifecycle import Server
from tts_provider.speech.engine import Sound, Utterance

TEXT = "The train to the coast leaves early in the morning. It arrives before the sun is up."
FIRST = "The train to the coast leaves early in the morning."
AUDIBLE = 0.01
RATE = 24_000
CHUNK_SAMPLES = 1920
FRAME_S = 0.08


class ClockEngine(EspeakEngine):
    """80 ms of samples every 80 ms; the first four of each carry the time they left."""

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("nothing to load")

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        start = time.monotonic()
        for number in range(60):
            await asyncio.sleep(max(0.0, start + number * FRAME_S - time.monotonic()))
            samples = np.full(CHUNK_SAMPLES, 0.25, np.float32)
            samples[:4] = from_s16(struct.pack("<Q", time.monotonic_ns()))
            yield Sound(samples)


def serve(engine_name: str, pipe: Connection) -> None:
    async def run() -> None:
        settings = Settings(
            host="127.0.0.1", port=0, max_streams=128, max_queued_requests=256, _env_file=None
        )
        if engine_name == "clock":
            engine = ClockEngine()
        else:
            engine = build_engine(Choice(engine_name, "it is measured"), settings)
        server = Server(engine, settings)
        running = asyncio.create_task(server.run())
        await server.listening.wait()
        pipe.send(server.port)
        await asyncio.to_thread(pipe.recv)
        server.stop()
        await running

    asyncio.run(run())


class ServerProcess:
    def __init__(self, engine_name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(engine_name, theirs))

    def __enter__(self) -> str:
        self._process.start()
        return f"ws://127.0.0.1:{self._pipe.recv()}"

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self._process.join()


async def first_audio_ms(url: str, requests: int, clients: int) -> list[float]:
    """TTFA of `requests` requests by each of `clients` clients that start together."""
    barrier = asyncio.Semaphore(0)

    async def client() -> list[float]:
        times = []
        async with connect(url, compression=None, max_size=None) as socket:
            await speak_once(socket)  # the connection's first request also warms the client
            await barrier.acquire()
            for _ in range(requests):
                times.append(await speak_once(socket))
        return times

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(0.5)
    for _ in tasks:
        barrier.release()
    return [t for times in await asyncio.gather(*tasks) for t in times]


class Listener:
    """Plays from the first message on."""

    def __init__(self) -> None:
        self.heard: float | None = None
        """When the first sound is heard."""
        self.until: float | None = None
        """When everything that came is played."""
        self.underruns = 0

    def push(self, message: bytes) -> None:
        now = time.monotonic()
        samples = from_s16(message[wav_data_at(message[:4096]) or 0 :])
        if self.until is not None and now > self.until:
            self.underruns += 1
        begin = now if self.until is None else max(now, self.until)
        loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
        if self.heard is None and len(loud):
            self.heard = begin + int(loud[0]) / RATE
        self.until = begin + len(samples) / RATE


async def speak_once(socket: object, listener: Listener | None = None) -> float:
    listener = listener or Listener()
    sent = time.monotonic()
    await socket.send(json.dumps({"text": FIRST, "stream": True}))  # type: ignore[attr-defined]
    while True:
        message = await socket.recv()  # type: ignore[attr-defined]
        if isinstance(message, bytes):
            listener.push(message)
        elif json.loads(message)["status"] == "success":
            assert listener.heard is not None
            return 1000 * (listener.heard - sent)


async def underruns(url: str, clients: int, seconds: float) -> tuple[int, int]:
    """How often somebody of `clients` was left without audio, and sentences heard."""

    async def client(delay_s: float) -> tuple[int, int]:
        listener, sentences = Listener(), 0
        await asyncio.sleep(delay_s)  # they do not begin in step
        async with connect(url, compression=None, max_size=None) as socket:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await speak_once(socket, listener)
                sentences += 1
                assert listener.until is not None
                await asyncio.sleep(max(0.0, listener.until - time.monotonic() - 1.0))
        return listener.underruns, sentences

    counts = await asyncio.gather(*(client(3 * n / clients) for n in range(clients)))
    return sum(count for count, _ in counts), sum(count for _, count in counts)


async def first_session_audio_ms(url: str, turns: int) -> list[float]:
    """TTFA of the turns of one speech session, each sent as pieces of a few characters."""
    times = []
    async with connect(f"{url}/v1/stream", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "session.update", "audio": "binary"}))
        for number in range(turns + 1):
            context, listener = {"context_id": str(number)}, Listener()
            sent = time.monotonic()
            for start in range(0, len(TEXT), 4):
                piece = {"type": "input_text.append", **context, "text": TEXT[start : start + 4]}
                await socket.send(json.dumps(piece))
            await socket.send(json.dumps({"type": "input_text.end", **context}))
            while True:
                message = await socket.recv()
                if isinstance(message, bytes):
                    listener.push(message)
                elif json.loads(message)["type"] == "context.done":
                    break
            assert listener.heard is not None
            times.append(1000 * (listener.heard - sent))
    return times[1:]


async def overhead_ms(url: str, clients: int) -> list[float]:
    """Chunk left the engine → client has it, for each chunk of `clients` paced streams."""

    async def client(delay_s: float) -> list[float]:
        delays = []
        await asyncio.sleep(delay_s)  # streams do not start in step
        async with connect(url, compression=None, max_size=None) as socket:
            await socket.send(json.dumps({"text": TEXT, "stream": True}))
            while True:
                message = await socket.recv()
                if isinstance(message, str):
                    if json.loads(message)["status"] == "success":
                        return delays
                    continue
                now = time.monotonic_ns()
                # The pipeline joins chunks as a stream goes on; the newest one ended the message.
                newest = message[-CHUNK_SAMPLES * 2 :][:8]
                delays.append((now - struct.unpack("<Q", newest)[0]) / 1e6)

    tasks = [client(FRAME_S * number / clients) for number in range(clients)]
    return [d for delays in await asyncio.gather(*tasks) for d in delays]


def summary(name: str, values: list[float]) -> dict[str, float | str]:
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    row = {"what": name, "n": len(values), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
    print(f"{name:42} {len(values):6} {p50:8.2f} {p95:8.2f} {p99:8.2f}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    machine = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvicorn", "websockets", "numpy")},
    }
    print(machine)
    print(f"{'what':42} {'n':>6} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    rows = []
    for engine in ("hibari", "espeak"):
        with ServerProcess(engine) as url:
            for clients, requests in ((1, 100), (32, 10)):
                times = asyncio.run(first_audio_ms(url, requests, clients))
                rows.append(summary(f"TTFA, {engine}, clients at once: {clients}", times))
            times = asyncio.run(first_session_audio_ms(url, 50))
            rows.append(summary(f"TTFA, {engine}, speech session", times))
    with ServerProcess("hibari") as url:
        for clients in (32, 64, 96, 128):
            count, sentences = asyncio.run(underruns(url, clients, 15.0))
            print(f"hibari, {clients} listeners: {count} underruns in {sentences} sentences")
            rows.append({"what": f"underruns, {clients} listeners", "n": sentences, "of": count})
    with ServerProcess("clock") as url:
        for clients in (1, 32):
            rows.append(
                summary(
                    f"overhead per chunk, paced streams: {clients}",
                    asyncio.run(overhead_ms(url, clients)),
                )
            )
    if arguments.json:
        report = json.dumps({**machine, "rows": rows}, indent=2)
        Path(arguments.json).write_text(report + "\n", "utf-8")


if __name__ == "__main__":
    main()
