"""The longest silence that listeners hear while something happens to a replica.

Eight paced sessions before a gateway with two replicas; in the middle one replica is frozen,
throttled to a tenth, or killed. With `--rollout` three replicas are drained and started anew, one
after the other, as a release does it.

    python benchmarks/slow_replica.py --repeat 5
    python benchmarks/slow_replica.py --rollout
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import connect

from fleet import Program, fault, start_gateway, start_replica

TEXT = (
    "The night train leaves the harbour at ten, and it crosses the long bridge before the tide "
    "comes in. Nobody on board has slept much. Two children count the lamps along the water; an "
    "old man reads his newspaper from the last page to the first. At the border they stop for "
    "an hour, and somebody brings coffee. Then the hills begin. "
)
AHEAD_MS = 400
BYTES_A_SECOND = 48_000


@dataclass
class Heard:
    audio: bytearray = field(default_factory=bytearray)
    first_s: float = 0.0
    """The longest wait for a turn's first sound."""
    longest_silence_s: float = 0.0
    """Within a turn."""
    error: str = ""


async def listen(port: int, number: int, turns: int, heard: Heard) -> None:
    """One session that is `AHEAD_MS` ahead of its listener at most; each turn is a context."""
    await asyncio.sleep(number * 0.15)
    async with connect(f"ws://127.0.0.1:{port}/v1/stream", max_size=None) as socket:
        await socket.recv()
        await socket.send(
            json.dumps({"type": "session.update", "audio": "binary", "max_ahead_ms": AHEAD_MS})
        )
        reply = json.loads(await socket.recv())
        assert reply["type"] == "session.updated", reply
        until_s = 0.0
        for turn in range(turns):
            facts = {"type": "input_text.append", "context_id": f"c{turn}", "text": TEXT}
            asked_s = time.monotonic()
            await socket.send(json.dumps(facts))
            await socket.send(json.dumps({"type": "input_text.end", "context_id": f"c{turn}"}))
            has_begun = False
            while True:
                message = await socket.recv()
                now_s = time.monotonic()
                if isinstance(message, bytes):
                    # Before the first sound of a turn it is the wait for it.
                    expected_s = until_s if has_begun else max(until_s, asked_s)
                    silence_s = now_s - expected_s
                    if has_begun:
                        heard.longest_silence_s = max(heard.longest_silence_s, silence_s)
                    else:
                        heard.first_s = max(heard.first_s, silence_s)
                    has_begun = True
                    until_s = max(until_s, now_s) + len(message) / BYTES_A_SECOND
                    heard.audio += message
                    continue
                kind = json.loads(message)
                if kind["type"] == "error":
                    heard.error = f"{kind['code']}: {kind['message']}"
                if kind["type"] == "context.done":
                    break


async def hear_all(port: int, listeners: int, turns: int, events: object) -> list[Heard]:
    heard = [Heard() for _ in range(listeners)]
    tasks = [listen(port, number, turns, each) for number, each in enumerate(heard)]
    happening = asyncio.create_task(asyncio.to_thread(events))  # type: ignore[arg-type]
    await asyncio.gather(*tasks)
    await happening
    return heard


def say(name: str, heard: list[Heard], metrics: str) -> float:
    """The longest silence, and the longest wait for a turn's first sound."""
    lengths = {len(each.audio) for each in heard}
    same = len({bytes(each.audio) for each in heard}) == 1
    longest_s = max(each.longest_silence_s for each in heard)
    errors = [each.error for each in heard if each.error]
    whole = "all whole and the same" if same and not errors else f"lengths {lengths}, {errors}"
    first_ms = 1000 * max(each.first_s for each in heard)
    print(
        f"{name:10} longest silence {1000 * longest_s:5.0f} ms, first sound {first_ms:5.0f} ms; "
        f"{whole}; {metrics}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return longest_s


def rescues(gateway: Program) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counted = (line for line in lines if line.startswith("tts_remote_rescues_total"))
    found = [line for line in counted if not line.endswith(" 0.0")]
    return " ".join(line.removeprefix("tts_remote_rescues_total") for line in found) or "no rescue"


def measure(kind: str, given: argparse.Namespace) -> float:
    with ExitStack() as stack:
        replicas = [start_replica(given.engine) for _ in range(2)]
        for replica in replicas:
            stack.callback(replica.stop)
        gateway = start_gateway([f"http://127.0.0.1:{r.port}" for r in replicas])
        stack.callback(gateway.stop)

        def events() -> None:
            time.sleep(given.after)
            with fault(kind, replicas[0]):
                time.sleep(given.last)

        heard = asyncio.run(hear_all(gateway.port, given.listeners, given.turns, events))
        return say(kind, heard, rescues(gateway))


def roll_out(given: argparse.Namespace) -> float:
    """Three replicas, of which one after the other is drained and started anew."""
    replicas = [start_replica(given.engine) for _ in range(3)]
    with ExitStack() as stack:
        gateway = start_gateway([f"http://127.0.0.1:{r.port}" for r in replicas])
        stack.callback(gateway.stop)

        def events() -> None:
            for place, old in enumerate(replicas):
                time.sleep(given.after)
                old.send(signal.SIGTERM)
                old.process.wait()
                replicas[place] = start_replica(given.engine, port=old.port)

        try:
            heard = asyncio.run(hear_all(gateway.port, given.listeners, given.turns, events))
            return say("rollout", heard, rescues(gateway))
        finally:
            for replica in replicas:
                replica.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="hibari")
    parser.add_argument("--listeners", type=int, default=8)
    parser.add_argument("--turns", type=int, default=1, help="texts of 20 s for each")
    parser.add_argument("--after", type=float, default=4.0, help="seconds until the fault")
    parser.add_argument("--last", type=float, default=12.0, help="seconds that it lasts")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--fault", action="append", choices=("none", "frozen", "throttled", "killed")
    )
    parser.add_argument("--rollout", action="store_true")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if given.rollout:
        found = {"rollout": [roll_out(given) for _ in range(given.repeat)]}
    else:
        kinds = given.fault or ["none", "frozen", "throttled", "killed"]
        found = {kind: [measure(kind, given) for _ in range(given.repeat)] for kind in kinds}
    for kind, values in found.items():
        low, high = 1000 * np.median(values), 1000 * max(values)
        print(f"{kind:10} median {low:5.0f} ms, longest {high:5.0f} ms of {len(values)} runs")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
