"""Real servers for the tests, and engines whose timing a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi.dependencies.models
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

import forks
from forks import Program
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.selection import build_engine, choose_embedded
from tts_provider.server.lifecycle import Server
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Sound, Utterance, Word

REPOSITORY = Path(__file__).resolve().parent.parent
CHUNK_SAMPLES = SAMPLE_RATE * 80 // 1000
PATIENCE_S = 60  # how long a test waits for what must come before it calls it lost


class GatedEngine(EspeakEngine):
    """The embedded voice; it loads when the test opens the gate, or fails."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def load(self, on_progress: Callable[[str], None]) -> None:
        await self.gate
        await super().load(on_progress)


class SteppedEngine(EspeakEngine):
    """The embedded voice; each chunk leaves when the test allows one more."""

    def __init__(self) -> None:
        self.steps = asyncio.Semaphore(0)
        self.chunks_made = 0
        self.waiting = 0  # utterances that have a chunk ready

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("nothing to load")

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        async with contextlib.aclosing(super().speak(utterance)) as chunks:
            async for chunk in in_80_ms(chunks):
                self.waiting += 1
                try:
                    await self.steps.acquire()
                finally:
                    self.waiting -= 1
                self.chunks_made += 1
                yield chunk

    def allow(self, chunks: int = 1_000_000) -> None:
        for _ in range(min(chunks, 10_000)):
            self.steps.release()


async def in_80_ms(sounds: AsyncIterator[Sound]) -> AsyncIterator[Sound]:
    """The same, cut; words come with the last."""
    held, words = np.zeros(0, np.float32), list[Word]()
    async for sound in sounds:
        held, words = np.concatenate([held, sound.samples]), [*words, *sound.words]
        while len(held) >= 2 * CHUNK_SAMPLES:
            yield Sound(held[:CHUNK_SAMPLES])
            held = held[CHUNK_SAMPLES:]
    yield Sound(held, tuple(words))


def embedded_engine() -> Engine:
    """What speaks where nobody chose and there is no CSM-1B."""
    settings = Settings(_env_file=None)
    return build_engine(choose_embedded(settings), settings)


@contextlib.asynccontextmanager
async def running_server(
    engine: Engine | None = None, *, is_ready: bool = True, **settings: Any
) -> AsyncIterator[Server]:
    """A server on a free loopback port, ready unless `engine` holds it up or nobody waits. Its data
    folder is its own: voices, keys and jobs of whoever runs the tests are not touched."""
    if "data_dir" not in settings:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            more = {**settings, "data_dir": folder}
            async with running_server(engine, is_ready=is_ready, **more) as server:
                yield server
        return
    wanted = Settings(**{"host": "127.0.0.1", "port": 0, "_env_file": None, **settings})
    server = Server(engine or EspeakEngine(), wanted)
    running = asyncio.create_task(server.run())
    listening = asyncio.create_task(server.listening.wait())
    await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    try:
        if running.done():
            running.result()
        gated = not is_ready or isinstance(engine, GatedEngine)
        while not (server.service.admission.is_open or gated):
            assert not running.done(), "the engine did not load; the log says why"
            await asyncio.sleep(0)
        yield server
    finally:
        server.stop()
        await asyncio.wait_for(asyncio.shield(running), PATIENCE_S)
        # FastAPI remembers the functions of 4096 routes, and with each a server and its model.
        for function in vars(fastapi.dependencies.models).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


def open_socket(server: Server | int, **options: Any) -> connect:
    port = server if isinstance(server, int) else server.port
    path = options.pop("path", "")
    options = {"compression": None, "max_size": None, **options}
    return connect(f"ws://127.0.0.1:{port}/{path}", **options)


async def send(socket: ClientConnection, **request: Any) -> None:
    await socket.send(json.dumps(request))


async def receive(socket: ClientConnection) -> Any:
    """The next message: a JSON body, or bytes."""
    message = await asyncio.wait_for(socket.recv(), PATIENCE_S)
    return message if isinstance(message, bytes) else json.loads(message)


async def ask(socket: ClientConnection, **request: Any) -> Any:
    await send(socket, **request)
    return await receive(socket)


async def collect_stream(socket: ClientConnection) -> tuple[list[bytes], dict[str, Any]]:
    """Audio messages until the status that ends them."""
    pieces = []
    while isinstance(message := await receive(socket), bytes):
        pieces.append(message)
    return pieces, message


class ServerProcess:
    """`python run_server.py …` as a user starts it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        listening = re.search(r"ws://.*?:(\d+)", self.wait_for_log("listening on"))
        assert listening is not None
        self.port = int(listening.group(1))
        self.wait_for_log("ready: ")

    def wait_for_log(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if text in line:
                return line.rstrip()
        raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.log))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        assert self.process.stderr is not None
        self.log += self.process.stderr.read().splitlines()
        return self.process.wait(PATIENCE_S)


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """This environment without settings of its own, and with an empty home folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TTS_PROVIDER_", "HF_", "XDG_"))
    }
    return {**kept, "HOME": str(home), **extra}


@contextlib.contextmanager
def server_process(
    folder: Path, *flags: str, script: Path = REPOSITORY / "run_server.py", **environment: str
) -> Iterator[ServerProcess]:
    command = [sys.executable, str(script), "--host", "127.0.0.1"]
    process = Program(
        [*command, "--port", "0", *flags],
        cwd=folder,
        env=clean_environment(folder, **environment),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield ServerProcess(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def run_cli(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """`tts-provider …` with an empty home folder."""
    options = {"text": True, "env": clean_environment(folder), "cwd": folder, **options}
    command = [sys.executable, "-m", "tts_provider", *arguments]
    return forks.run(command, timeout=PATIENCE_S, **options)
