"""What a job costs listeners: four of them, with a job that uses all that is left and without one.

    python benchmarks/jobs.py [--rounds 4]

A server with the embedded voice runs in a process of its own. Four listeners each ask for twelve
sentences as streams at `/`, one after the other with pauses between them, first without a job, then
beside one that has enough to do; so often as there are rounds. Printed for both: milliseconds to
the first audio, and how much later than at its turn each piece came, for a listener who plays what
is there from the first piece on. The last line is how fast the job was meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from sentences import SENTENCES
from servers import ServerProcess

LISTENERS, SENTENCES_EACH = 4, 12
BOOK = "\n\n".join([" ".join(SENTENCES)] * 60)
BYTES_PER_S = 48_000


class Heard:
    def __init__(self) -> None:
        self.first_ms: list[float] = []
        self.late_ms: list[float] = []

    def row(self, name: str) -> str:
        first = statistics.quantiles(self.first_ms, n=100)
        late = statistics.quantiles(self.late_ms, n=100)
        return (
            f"| {name} | {first[49]:.0f}, {first[94]:.0f}, {first[98]:.0f} | "
            f"{late[49]:.1f}, {late[98]:.1f} | {max(self.late_ms):.1f} |"
        )


async def listen(port: int, number: int, heard: Heard) -> None:
    draw = random.Random(number)
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None) as socket:
        for sentence in draw.sample(SENTENCES, SENTENCES_EACH):
            await asyncio.sleep(draw.uniform(0.2, 1.0))
            asked = time.monotonic()
            await socket.send(json.dumps({"text": sentence, "stream": True, "format": "pcm"}))
            turn = 0.0
            while True:
                message = await socket.recv()
                now = time.monotonic()
                if not isinstance(message, bytes):
                    if json.loads(message)["status"] != "streaming":
                        break
                    continue
                if not turn:
                    heard.first_ms.append((now - asked) * 1000)
                    turn = now
                heard.late_ms.append(max(0.0, (now - turn) * 1000))
                turn = max(turn, now) + len(message) / BYTES_PER_S


async def measure(port: int, rounds: int) -> None:
    alone, beside, speeds = Heard(), Heard(), []
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        for _ in range(rounds):
            await asyncio.gather(*(listen(port, number, alone) for number in range(LISTENERS)))
            answer = await client.post("/v1/audio/jobs", json={"input": BOOK})
            place = answer.raise_for_status().headers["location"]
            begun = time.monotonic()
            await asyncio.gather(*(listen(port, number, beside) for number in range(LISTENERS)))
            taken_s = time.monotonic() - begun
            job = (await client.get(place)).json()
            if job["state"] != "working":
                raise SystemExit(f"the job is {job['state']}: it needs more to do")
            speeds.append(job["share"] * job["characters"] / taken_s)
            await client.delete(place)
    print("| | to the first audio p50, p95, p99 | late p50, p99 | at most |")
    print("| --- | --- | --- | --- |")
    print(alone.row("no job"))
    print(beside.row("beside a job"))
    print(f"the job: {statistics.median(speeds):.0f} characters a second beside the listeners")


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "tts_provider", "serve", "--engine", "hibari"),
            *("--host", "127.0.0.1", "--port", "0", "--data-dir", folder),
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                asyncio.run(measure(ServerProcess(process).port, rounds))
            finally:
                process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    main(parser.parse_args().rounds)
