"""Replicas on loopback ports: real ones under uvicorn, and bytes that a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from forks import Program
from servers import PATIENCE_S, clean_environment
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import Frame, encode
from tts_provider.engines.remote.messages import Description
from tts_provider.engines.remote.replica import Replica
from tts_provider.server.lifecycle import bind, listen
from tts_provider.server.transport.http import http_protocol
from tts_provider.speech.engine import Engine, Manner, Utterance

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
ESPEAK = Description(
    replica="scripted",
    engine="espeak",
    model="espeak-ng",
    device="cpu",
    precision="int16",
    speeds=(0.5, 2.0),
    takes_prompts=False,
    voices=list(VOICES),
    max_streams=8,
)


class RunningReplica(Replica):
    url: str


@contextlib.asynccontextmanager
async def running_replica(
    engine: Engine | None = None, *, is_loaded: bool = True, port: int = 0, **options: Any
) -> AsyncIterator[RunningReplica]:
    options = {"store": None, "name": "a-replica", "max_streams": 8, **options}
    replica = RunningReplica(engine or EspeakEngine(), **options)
    if is_loaded:
        replica.open()
    listeners = bind("127.0.0.1", port)
    listen(listeners, "127.0.0.1")
    replica.url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
    config = uvicorn.Config(
        replica,
        http=http_protocol(10.0, 1000),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(listeners))
    try:
        yield replica
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, PATIENCE_S)


@contextlib.asynccontextmanager
async def remote_engine(*urls: str, **options: Any) -> AsyncIterator[RemoteEngine]:
    """Loaded: a replica has said what it is."""
    engine = RemoteEngine(urls, **options)
    try:
        await asyncio.wait_for(engine.load(lambda line: None), PATIENCE_S)
        yield engine
    finally:
        await engine.close()


Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(answer: Answer) -> AsyncIterator[str]:
    """Something that describes itself as a replica; `answer` is given a passage's path and where
    its bytes go."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            length = re.search(r"(?i)content-length: (\d+)", head)
            if length is not None:
                await reader.readexactly(int(length.group(1)))
            if path == "/describe":
                writer.write(HEAD + ESPEAK.model_dump_json().encode())
            else:
                await answer(path, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def frames_bytes(*frames: Frame) -> bytes:
    return b"".join(map(encode, frames))


def utterance(text: str = "Hello there, and a good day.", **fields: Any) -> Utterance:
    """`fields` of it, or of its manner."""
    manner = {name: fields.pop(name) for name in [*fields] if name in Manner.__dataclass_fields__}
    return Utterance(text, VOICES[0], Manner(**manner), **fields)


async def collect(engine: Engine, asked: Utterance) -> list[Any]:
    return [chunk async for chunk in engine.speak(asked)]


class ReplicaProcess:
    """`tts-provider replica …` as an operator starts it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "tts_provider", "replica", "--host", "127.0.0.1"]
        self.process = Program(
            [*command, "--engine", "espeak", *flags],
            cwd=folder,
            env=clean_environment(folder),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def wait_ready(self) -> None:
        assert self.process.stderr is not None
        log = []
        for line in self.process.stderr:
            log.append(line)
            if "listening on" in line:
                self.url = line.split()[-1]
            if "ready: " in line:
                return
        raise AssertionError("".join(log))

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def replica_process(folder: Path, *flags: str) -> Iterator[ReplicaProcess]:
    started = ReplicaProcess(folder, "--port", "0", *flags)
    try:
        started.wait_ready()
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        assert started.process.stderr is not None
        started.process.stderr.close()
