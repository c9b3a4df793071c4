"""Texts that ask for silence, at the largest format, again and again."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator

from floods import compare
from target import running
from witness import Row

_CLIENTS = 8
_BREAK = '<break time="10s"/>'
_OUTPUT = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 48_000}


def ask_all(port: int, seconds: float, transcript: str) -> None:
    """So many clients, each of which asks anew when it has read its answer."""
    until = time.monotonic() + seconds
    task = {"target": _ask, "args": (port, until, transcript), "daemon": True}
    clients = [threading.Thread(**task) for _ in range(_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(max(0.0, until - time.monotonic()))


def _ask(port: int, until: float, transcript: str) -> None:
    body = json.dumps({"transcript": transcript, "voice": "male", "output_format": _OUTPUT})
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/tts/bytes", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            while time.monotonic() < until and reply.read(65536):
                pass
        connection.close()


def before_a_letter(port: int, seconds: float) -> None:
    ask_all(port, seconds, _BREAK * 40 + "a")


def between_letters(port: int, seconds: float) -> None:
    ask_all(port, seconds, f"a {_BREAK * 170} a")


def more_than_there_may_be(port: int, seconds: float) -> None:
    ask_all(port, seconds, f"a {_BREAK * 1000} a")


SILENCES = {
    "40 breaks of 10 s and a letter, `/tts/bytes`, 8 clients": before_a_letter,
    "170 breaks of 10 s between two letters": between_letters,
    "1000 of them": more_than_there_may_be,
}


async def measure() -> AsyncIterator[Row]:
    with running() as target:
        for name, silence in SILENCES.items():
            yield await compare(name, silence, target)
