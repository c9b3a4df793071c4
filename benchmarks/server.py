"""Time to first audio, and what the server adds to each chunk, on the embedded voice.

    python benchmarks/server.py [--json FILE]

The server runs in a process of its own; the clients speak to it over real sockets on loopback.

* TTFA: request sent → first audio received, `stream: true`, one client and 32 at once; and in a
  speech session, from its first `input_text.append` with a first sentence in it.
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

from tts_provider.audio.pcm import from_s16
from tts_provider.config import Settings
from tts_provider.engines.espeak import EspeakEngine
from tts_provider.server.lifecycle import Server
from tts_provider.speech.engine import AudioChunk, Utterance

TEXT = "Hello there. I can answer at once, and I go on speaking while you listen to me."
CHUNK_SAMPLES = 1920
FRAME_S = 0.08


class ClockEngine(EspeakEngine):
    """80 ms of samples every 80 ms; the first four of each carry the time they left."""

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("nothing to load")

    async def speak(self, utterance: Utterance) -> AsyncGenerator[AudioChunk, None]:
        start = time.monotonic()
        for number in range(60):
            await asyncio.sleep(max(0.0, start + number * FRAME_S - time.monotonic()))
            samples = np.full(CHUNK_SAMPLES, 0.25, np.float32)
            samples[:4] = from_s16(struct.pack("<Q", time.monotonic_ns()))
            yield AudioChunk(samples, number * CHUNK_SAMPLES)


def serve(engine_name: str, pipe: Connection) -> None:
    async def run() -> None:
        engine = EspeakEngine() if engine_name == "espeak" else ClockEngine()
        settings = Settings(host="127.0.0.1", port=0, max_streams=64, _env_file=None)
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


async def speak_once(socket: object) -> float:
    sent = time.monotonic()
    await socket.send(json.dumps({"text": TEXT, "stream": True}))  # type: ignore[attr-defined]
    first = None
    while True:
        message = await socket.recv()  # type: ignore[attr-defined]
        if isinstance(message, bytes):
            first = first or time.monotonic()
        elif json.loads(message)["status"] == "success":
            assert first is not None
            return 1000 * (first - sent)


async def first_session_audio_ms(url: str, turns: int) -> list[float]:
    """TTFA of the turns of one speech session, each sent as pieces of a few characters."""
    times = []
    async with connect(f"{url}/v1/stream", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "session.update", "audio": "binary"}))
        for number in range(turns + 1):
            context, first = {"context_id": str(number)}, None
            sent = time.monotonic()
            for start in range(0, len(TEXT), 4):
                piece = {"type": "input_text.append", **context, "text": TEXT[start : start + 4]}
                await socket.send(json.dumps(piece))
            await socket.send(json.dumps({"type": "input_text.end", **context}))
            while True:
                message = await socket.recv()
                if isinstance(message, bytes):
                    first = first or time.monotonic()
                elif json.loads(message)["type"] == "context.done":
                    break
            assert first is not None
            times.append(1000 * (first - sent))
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
    with ServerProcess("espeak") as url:
        for clients, requests in ((1, 200), (32, 20)):
            times = asyncio.run(first_audio_ms(url, requests, clients))
            rows.append(summary(f"TTFA, embedded voice, clients at once: {clients}", times))
        times = asyncio.run(first_session_audio_ms(url, 200))
        rows.append(summary("TTFA, speech session, text in pieces", times))
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
