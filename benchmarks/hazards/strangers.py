"""Clients without a key where there are keys: the listeners have one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial

from floods import compare, frame, open_raw
from target import running
from witness import Row

_PATH = b"/v1/text-to-speech/male/multi-stream-input"
_SOCKETS = 256
_EVERY_S = 7.0


def hold(port: int, seconds: float, every_s: float) -> None:
    """So many sockets that each send `x` every few seconds, and come again where they are ended."""
    until = time.monotonic() + seconds
    sockets = []
    while time.monotonic() < until:
        while len(sockets) < _SOCKETS and time.monotonic() < until:
            with contextlib.suppress(OSError):
                sockets.append(open_raw(port, _PATH))
                sockets[-1].setblocking(False)
        for one in list(sockets):
            try:
                one.send(frame(b"x"))
                while one.recv(65536):
                    pass
                sockets.remove(one)
                one.close()
            except BlockingIOError:
                pass
            except OSError:
                sockets.remove(one)
        time.sleep(min(every_s, max(0.0, until - time.monotonic())))


STRANGERS = {
    "256 sockets without a key that send `x` every 7 s": partial(hold, every_s=_EVERY_S),
    "the same without a pause": partial(hold, every_s=0.01),
}


async def measure() -> AsyncIterator[Row]:
    with running(api_keys="k") as target:
        for name, attack in STRANGERS.items():
            yield await compare(name, attack, target)
