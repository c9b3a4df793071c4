"""What everybody else notices of an attack: listeners, a probe, the server's memory."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from target import FRAME_SAMPLES, Target
from websockets.asyncio.client import connect

SECONDS = 5.0
_LISTENERS = 4
_PROBE_EVERY_S = 0.02

Attack = Callable[[int, float], None]
"""Port, seconds. It runs in a process of its own."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: str
    control: str
    is_met: bool
    """As good as it has to be."""


@dataclass(frozen=True)
class Seen:
    late_ms: float
    """99 of 100 pieces of audio came no later, behind the moment the engine gave them away."""
    probe_ms: float
    """99 of 100 answers of /health."""
    more_mib: float
    """The server's peak beyond what it had before."""


async def watch(target: Target, attack: Attack | None = None, seconds: float = SECONDS) -> Seen:
    before_mib = target.forget_peak()
    process = None
    if attack is not None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=attack, args=(target.port, seconds + 1), daemon=True)
        process.start()
        await asyncio.sleep(1.0)  # its start is not the attack
    until = time.monotonic() + seconds
    late, probes = await asyncio.gather(
        asyncio.gather(*(listen(target, until) for _ in range(_LISTENERS))),
        probe(target.port, until),
    )
    more_mib = target.peak_mib() - before_mib
    if process is not None:
        process.kill()
        process.join()
    every = [ms for one in late for ms in one]
    return Seen(percentile(every, 99), percentile(probes, 99), more_mib)


async def listen(target: Target, until: float) -> list[float]:
    """How late each message with audio was, in ms."""
    late, url = [], f"ws://127.0.0.1:{target.port}/"
    connecting = connect(url, compression=None, max_size=None, additional_headers=target.headers)
    async with connecting as socket:
        while time.monotonic() < until:
            await socket.send(json.dumps({"text": "Hello.", "stream": True}))
            while True:
                message = await socket.recv()
                now_ns = time.monotonic_ns()
                if isinstance(message, bytes):
                    last = message[-2 * FRAME_SAMPLES :]
                    (left_ns,) = struct.unpack("<Q", last[:8])
                    late.append((now_ns - left_ns) / 1e6)
                elif json.loads(message)["status"] == "success":
                    break
    return late


async def probe(port: int, until: float) -> list[float]:
    """How long each /health took, connecting included, in ms."""
    took = []
    while time.monotonic() < until:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert b" 200 " in answer, answer[:100]
        writer.close()
        took.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(_PROBE_EVERY_S)
    return took


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
