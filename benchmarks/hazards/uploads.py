"""Recordings that were made to hurt, and four of them at once while others listen."""

from __future__ import annotations

import asyncio
import http.client
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from target import running
from witness import Row, watch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import bombs

_BOUNDARY = "boundary"
_AT_ONCE = 4
_WORST = ("MP4, a million empty mdat", "MP4, 250 runs of a million", "a million empty ID3 tags")


def enrol(port: int, audio: bytes) -> int:
    fields = {"name": "A", "transcript": "Word for word.", "consent": "true"}
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    body = "".join([*parts, file]).encode() + audio + f"\r\n--{_BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    connection.request("POST", "/v1/audio/voices", body, kind)
    status = connection.getresponse().status
    connection.close()
    return status


def enrol_again_and_again(port: int, seconds: float) -> None:
    async def send(audio: bytes, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.to_thread(enrol, port, audio)

    async def send_all() -> None:
        until = time.monotonic() + seconds
        made = [bombs.BOMBS[name]() for name in _WORST]
        await asyncio.gather(*(send(made[n % len(made)], until) for n in range(_AT_ONCE)))

    asyncio.run(send_all())


async def measure() -> AsyncIterator[Row]:
    told = await asyncio.to_thread(bombs.decode_all)
    slowest = max(told["took_s"], key=told["took_s"].get)
    took_s = told["took_s"][slowest]
    yield Row(
        f"{len(told['took_s'])} recordings made to hurt",
        f"at most {took_s:.1f} s in the decoder ({slowest})",
        "at most 10 s",
        took_s <= 10,
    )
    child_mib, own_mib = told["child_mib"], told["own_mib"]
    yield Row(
        "the same",
        f"a decoder has {child_mib} MiB at most, its parent {own_mib:+d} MiB",
        "at most 300 MiB, and nothing",
        child_mib <= 300 and own_mib <= 16,
    )
    with running() as target:
        control = await watch(target)
        seen = await watch(target, enrol_again_and_again)
        yield Row(
            f"{_AT_ONCE} clients that send the worst of them again and again",
            f"late {seen.late_ms:.0f} ms, /health {seen.probe_ms:.0f} ms, {seen.more_mib:+.0f} MiB",
            f"late {control.late_ms:.0f} ms, /health {control.probe_ms:.0f} ms",
            seen.late_ms <= 2 * max(control.late_ms, 25.0) and seen.more_mib <= 150,
        )
