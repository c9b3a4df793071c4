"""The server that is attacked, in a process of its own.

Its engine speaks by the clock, as one in real time does: 80 ms of samples every 80 ms, with the
moment they left in the first four of them. So a listener knows how late they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import numpy as np

from tts_provider.audio.pcm import from_s16
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.errors import StartupError
from tts_provider.server.lifecycle import Server
from tts_provider.server.logs import configure_logging
from tts_provider.speech.engine import Sound, Utterance

FRAME_S = 0.08
FRAME_SAMPLES = 1920
_FRAMES = 50  # of an utterance


class ClockEngine(EspeakEngine):
    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("nothing to load")

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        start = time.monotonic()
        for number in range(_FRAMES):
            await asyncio.sleep(max(0.0, start + number * FRAME_S - time.monotonic()))
            samples = np.full(FRAME_SAMPLES, 0.25, np.float32)
            samples[:4] = from_s16(struct.pack("<Q", time.monotonic_ns()))
            yield Sound(samples)


class LeakingEngine(ClockEngine):
    """Forgets nothing: what the soak has to find."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        self._kept.append(os.urandom(128 * 1024))
        async with contextlib.aclosing(super().speak(utterance)) as chunks:
            async for chunk in chunks:
                yield chunk


class GatewayEngine(ClockEngine):
    """The male voice is its own, by the clock; the female one is spoken by replicas elsewhere."""

    async def load(self, on_progress: Callable[[str], None]) -> None:
        self._remote = RemoteEngine(Settings().engine_urls)
        self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            with contextlib.suppress(StartupError):
                await self._remote.load(lambda line: None)
                return
            await asyncio.sleep(1.0)

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        far = utterance.voice.id == "female"
        speech = self._remote.speak(utterance) if far else super().speak(utterance)
        async with contextlib.aclosing(speech) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        self._asking.cancel()
        await self._remote.close()


ENGINES = {
    "clock": ClockEngine,
    "espeak": EspeakEngine,
    "gateway": GatewayEngine,
    "leaking": LeakingEngine,
}


class Target:
    def __init__(
        self, process: subprocess.Popen[bytes], log: Path, headers: dict[str, str]
    ) -> None:
        self.process, self.headers = process, headers
        self._log = log
        self.port = self._await_port()

    def _await_port(self) -> int:
        while self.process.poll() is None:
            found = re.search(rb"listening on ws://.*?:(\d+)", self.log())
            if found and b"ready: " in self.log():
                return int(found[1])
            time.sleep(0.05)
        raise RuntimeError(self.log().decode())

    @property
    def wyoming_port(self) -> int:
        found = re.search(rb"Wyoming .* on tcp://.*?:(\d+)", self.log())
        assert found is not None
        return int(found[1])

    def log(self) -> bytes:
        return self._log.read_bytes()

    def peak_mib(self) -> float:
        return self._status("VmHWM") / 1024

    def forget_peak(self) -> float:
        """From now on the peak is that of what comes; what there is now, in MiB."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self._status("VmRSS") / 1024

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


@contextlib.contextmanager
def running(
    engine: str = "clock", *, max_files: int | None = None, **settings: str
) -> Iterator[Target]:
    environment = {f"TTS_PROVIDER_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, __file__, engine]
    if max_files is not None:
        command = ["sh", "-c", f'ulimit -n {max_files} && exec "$@"', "sh", *command]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stderr=stream,
                env={**os.environ, **environment, "TTS_PROVIDER_DATA_DIR": folder},
            )
        try:
            key = settings.get("api_keys")
            yield Target(process, log, {"X-API-Key": key} if key else {})
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> int:
    configure_logging("text")
    settings = Settings(host="127.0.0.1", port=0, max_streams=64)

    async def run() -> int:
        return await Server(ENGINES[sys.argv[1]](), settings).run()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
