"""More connections than there are descriptors, all of which say nothing; and strange requests: what
is in the log, and how long the next one waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

from target import Target, running
from witness import Row, percentile, probe

_FILES = 512
_HALF_OPEN = 1500


def half_open(port: int) -> list[socket.socket]:
    opened = []
    for _ in range(_HALF_OPEN):
        connection = socket.socket()
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.connect(("127.0.0.1", port))
        opened.append(connection)
    return opened


def lines(target: Target, since: int) -> int:
    return target.log()[since:].count(b"\n")


async def measure() -> AsyncIterator[Row]:
    with running(max_files=_FILES) as target:
        control_ms = percentile(await probe(target.port, time.monotonic() + 2), 99)
        since = len(target.log())
        opened = half_open(target.port)
        took_ms = percentile(await probe(target.port, time.monotonic() + 5), 99)
        told = lines(target, since)
        for connection in opened:
            connection.close()
        yield Row(
            f"{_HALF_OPEN} connections that say nothing, `ulimit -n {_FILES}`",
            f"/health {took_ms:.0f} ms, {told} lines in the log in 5 s",
            f"/health {control_ms:.0f} ms",
            took_ms <= 1500 and told <= 20,
        )
        since = len(target.log())
        for _ in range(2000):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            writer.write(b"nothing at all\r\n\r\n")
            await reader.read()
            writer.close()
        told = lines(target, since)
        yield Row("2 000 requests that are not HTTP", f"{told} lines in the log", "", told <= 200)
