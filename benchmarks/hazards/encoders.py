"""32 listeners at once who take audio as fast as it is made: does a probe still get its answer?"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

from target import running
from witness import Row, percentile, probe

_LISTENERS = 32
_SECONDS = 8.0
_MOST_MS = 100.0
_FORMATS = ("pcm", "mp3", "opus", "aac", "flac")
_TEXT = "This is a sentence of a long text, and it goes on for a while. " * 100


def listen(port: int, seconds: float, audio_format: str, speed: float = 1.0) -> None:
    """In a process of its own."""
    asyncio.run(_listen_all(port, time.monotonic() + seconds, audio_format, speed))


async def _listen_all(port: int, until: float, audio_format: str, speed: float) -> None:
    listeners = (_listen(port, until, audio_format, speed) for _ in range(_LISTENERS))
    await asyncio.gather(*listeners)


async def _listen(port: int, until: float, audio_format: str, speed: float) -> None:
    body = {"input": _TEXT, "response_format": audio_format, "speed": speed}
    data = json.dumps(body).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + data)
        while time.monotonic() < until and await reader.read(1 << 18):
            pass
        writer.close()


async def measure() -> AsyncIterator[Row]:
    with running("espeak") as target:
        control_ms = percentile(await probe(target.port, time.monotonic() + 3), 99)
        for audio_format, speed in [*((name, 1.0) for name in _FORMATS), ("mp3", 4.0)]:
            seconds = str(_SECONDS + 1)
            listeners = await asyncio.create_subprocess_exec(
                *(sys.executable, __file__, str(target.port), seconds, audio_format, str(speed))
            )
            await asyncio.sleep(1.0)
            took_ms = percentile(await probe(target.port, time.monotonic() + _SECONDS), 99)
            await listeners.wait()
            speech = audio_format if speed == 1 else f"{audio_format} at speed {speed:g}"
            yield Row(
                f"{_LISTENERS} listeners of {speech} that never pause",
                f"/health {took_ms:.0f} ms",
                f"/health {control_ms:.0f} ms",
                took_ms <= _MOST_MS,
            )


if __name__ == "__main__":
    listen(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
