"""What a stranger's load generator finds: requests arrive at random whether or not the ones before
are done, and only what a listener would hear counts.

Arrivals are Poisson. A request is `POST /v1/audio/speech` as PCM, or a context of a session whose
text is written word by word. Milliseconds, from the request, or from the end of a session's text:

    playable    the first sample is here
    silence     before the first sample above -40 dB
    audible     that sample is here and its turn to be played has come
    dry         requests with an underrun: a sample whose turn has come is not here, where playback
                begins with the first chunk; the longest that one of them was without sound
    CPU         of the processes that speak, a request

    python benchmarks/open_loop.py                         one server at 1, 10 and 20 a second
    python benchmarks/open_loop.py --gateway               a gateway with two replicas
    python benchmarks/open_loop.py --gateway --fault frozen  … one of which is frozen meanwhile
    python benchmarks/open_loop.py --url http://HOST:PORT  any server with the API
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx2
import numpy as np
from websockets.asyncio.client import connect

from fleet import FAULTS, LossyLink, Program, fault, start_gateway, start_replica, start_server
from slow_replica import rescues

RATE = 24_000
LOUD = 10 ** (-40 / 20)
TEXTS = (
    "Hello there.",
    "Your table is booked for seven this evening.",
    "I can move the appointment to Thursday, if the morning suits you better.",
    "The parcel left the depot at noon and should reach you before five.",
    "Of course! Let me look that up for you, it will only take a moment.",
    "Two of the three reports are ready, and the last one follows tomorrow.",
)
WORDS_A_SECOND = 20.0


@dataclass
class Heard:
    """One request, as its listener has it; times on the event loop's clock."""

    asked_s: float
    samples: int = 0
    playable_s: float | None = None
    audible_s: float | None = None
    silence_s: float = 0.0
    underruns: int = 0
    late_s: float = 0.0
    problem: str = ""
    _dry_s: float = 0.0
    _rest: bytes = b""

    def add(self, data: bytes, now_s: float) -> None:
        """16-bit samples that arrived."""
        data = self._rest + data
        self._rest = data[len(data) // 2 * 2 :]
        sound = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        if not len(sound):
            return
        if self.playable_s is None:
            self.playable_s = self._dry_s = now_s
        if now_s > self._dry_s:
            self.underruns += 1
            self.late_s += now_s - self._dry_s
            self._dry_s = now_s
        if self.audible_s is None:
            loud = np.flatnonzero(np.abs(sound) > LOUD * 32768)
            if len(loud):
                self.audible_s = self._dry_s + loud[0] / RATE
                self.silence_s = (self.samples + loud[0]) / RATE
        self.samples += len(sound)
        # Its turn to be played comes behind what is here already.
        self._dry_s += len(sound) / RATE


@dataclass
class Figures:
    heard: list[Heard] = field(default_factory=list)

    def row(self, name: str, cpu_ms: float) -> str:
        done = [h for h in self.heard if h.audible_s is not None and not h.problem]
        problems = [h.problem or "nothing audible" for h in self.heard if h not in done]
        if not done:
            return f"{name:34} {problems[:1]}"

        def figures(values: list[float]) -> str:
            return " ".join(f"{1000 * np.percentile(values, p):6.0f}" for p in (50, 95, 99))

        playable = figures([h.playable_s - h.asked_s for h in done if h.playable_s is not None])
        audible = figures([h.audible_s - h.asked_s for h in done if h.audible_s is not None])
        silence = f"{1000 * np.median([h.silence_s for h in done]):5.1f}"
        dry = sum(h.underruns > 0 for h in done)
        longest_ms = 1000 * max(h.late_s for h in done)
        failed = f" {len(problems)} failed: {problems[0]}" if problems else ""
        return (
            f"{name:34} {len(self.heard):5} {playable} {audible} {silence:>7} "
            f"{dry:5} {longest_ms:7.0f} {cpu_ms:6.0f}{failed}"
        )


HEAD = (
    f"{'':34} {'n':>5} {'playable p50, p95, p99':>20} {'audible p50, p95, p99':>20} "
    f"{'silence':>7} {'dry':>5} {'longest':>7} {'CPU':>6}"
)


async def speak_http(client: httpx2.AsyncClient, url: str, text: str, heard: Heard) -> None:
    body = {"input": text, "model": "tts-1", "voice": "alloy", "response_format": "pcm"}
    loop = asyncio.get_running_loop()
    async with client.stream("POST", f"{url}/v1/audio/speech", json=body) as answer:
        if answer.status_code != 200:
            heard.problem = f"{answer.status_code} {(await answer.aread())[:200]!r}"
            return
        async for data in answer.aiter_raw():
            heard.add(data, loop.time())


async def speak_session(url: str, text: str, heard: Heard) -> None:
    """Times count from the end of the text, which is written at the pace of a language model."""
    loop = asyncio.get_running_loop()
    address = url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(address, max_size=None, compression=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "session.update", "audio": "binary"}))
        await socket.recv()

        async def write() -> None:
            for word in text.split():
                await asyncio.sleep(1 / WORDS_A_SECOND)
                facts = {"type": "input_text.append", "context_id": "c", "text": word + " "}
                await socket.send(json.dumps(facts))
            heard.asked_s = loop.time()
            await socket.send(json.dumps({"type": "input_text.end", "context_id": "c"}))

        writing = asyncio.create_task(write())
        async for message in socket:
            if isinstance(message, bytes):
                heard.add(message, loop.time())
                continue
            facts = json.loads(message)
            if facts["type"] == "error":
                heard.problem = f"{facts['code']}: {facts['message']}"
            if facts["type"] == "context.done":
                break
        await writing


async def arrivals(rate: float, count: int, seed: int) -> AsyncGenerator[int, None]:
    """Numbers of requests, when they arrive."""
    loop, random = asyncio.get_running_loop(), np.random.default_rng(seed)
    due_s = loop.time()
    for number in range(count):
        due_s += random.exponential(1 / rate)
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        yield number


async def load(urls: list[str], kind: str, rate: float, count: int, seed: int) -> list[Figures]:
    """Requests take turns at the addresses; figures of each."""
    loop, found = asyncio.get_running_loop(), [Figures() for _ in urls]
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=4.0)
    async with httpx2.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def one(url: str, text: str, heard: Heard) -> None:
            try:
                if kind == "http":
                    await speak_http(client, url, text, heard)
                else:
                    await speak_session(url, text, heard)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's outcome
                heard.problem = f"{type(error).__name__}: {error}"

        tasks = []
        async for number in arrivals(rate, count, seed):
            heard = Heard(loop.time())
            place = number % len(urls)
            found[place].heard.append(heard)
            text = TEXTS[number // len(urls) % len(TEXTS)]
            tasks.append(asyncio.create_task(one(urls[place], text, heard)))
        await asyncio.gather(*tasks)
    return found


def say_fault(kind: str, gateway: Program) -> None:
    print(f"{'':34} {kind}: second requests: {rescues(gateway)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--engine", default="hibari")
    parser.add_argument("--gateway", action="store_true", help="a gateway with two replicas")
    parser.add_argument("--beside", action="store_true", help="and one server, in turns")
    parser.add_argument("--fault", choices=FAULTS, default="none", help="of one replica")
    parser.add_argument("--rate", type=float, action="append", help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kind", choices=("http", "session"), default="http")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{HEAD}", flush=True)
    with ExitStack() as stack:

        def started(program: Program) -> Program:
            stack.callback(program.stop)
            programs.append(program)
            return program

        targets, gateway, faulty = dict[str, str](), None, None
        programs = list[Program]()
        if given.url is not None:
            targets[given.url] = given.url.rstrip("/")
        if given.url is None and (given.beside or not given.gateway):
            targets["one server"] = f"http://127.0.0.1:{started(start_server(given.engine)).port}"
        if given.gateway:
            addresses = []
            if given.fault == "lossy":
                link = LossyLink(5)
                stack.callback(link.close)
                faulty = started(start_replica(given.engine, link.THERE, 8766, link.before))
                addresses.append(f"http://{link.THERE}:{faulty.port}")
            else:
                faulty = started(start_replica(given.engine))
                addresses.append(f"http://127.0.0.1:{faulty.port}")
            other = started(start_replica(given.engine))
            addresses.append(f"http://127.0.0.1:{other.port}")
            gateway = started(start_gateway(addresses))
            targets["gateway, two replicas"] = f"http://127.0.0.1:{gateway.port}"
        urls = list(targets.values())
        asyncio.run(load(urls, given.kind, 10.0, 40 * len(urls), 0))  # warm
        for rate in given.rate or [1.0, 10.0, 20.0]:
            count = max(20, round(rate * given.seconds))
            before_s = sum(program.cpu_s() for program in programs)
            if faulty is None or given.fault in ("none", "lossy"):
                found = asyncio.run(load(urls, given.kind, rate, count, given.seed))
            else:
                with fault(given.fault, faulty):
                    found = asyncio.run(load(urls, given.kind, rate, count, given.seed))
            cpu_ms = 1000 * (sum(program.cpu_s() for program in programs) - before_s) / count
            for name, figures in zip(targets, found, strict=True):
                print(figures.row(f"{name}, {given.kind}, {rate:g}/s", cpu_ms), flush=True)
        if gateway is not None:
            say_fault(given.fault, gateway)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
