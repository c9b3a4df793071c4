"""Decodes files from clients in separate processes, one for each file.

A process takes 0.1 s to start, so one is kept ready. Its memory, CPU time and files are limited
(`decode_child`), its time is limited here, and it is killed when nobody waits for it any more. It
also reads signed manifests, on request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from asyncio import StreamReader
from asyncio.subprocess import Process
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from tts_provider.audio.decode.bounded import ANSWER, Answer
from tts_provider.audio.decode.decode import DECODED_RATE, check_size, damaged
from tts_provider.audio.decode.decode_child import JOB, TOO_MUCH_CPU, TOO_MUCH_MEMORY
from tts_provider.audio.encode.manifest import Manifest
from tts_provider.audio.pcm import Samples
from tts_provider.cpus import available_cpus
from tts_provider.errors import EngineFailed, InvalidRequest
from tts_provider.waiting.line import Line, try_later

log = logging.getLogger(__name__)

CHILD = "tts_provider.audio.decode.decode_child"
WALL_S = 10.0
"""For one file, its process's start included."""
_MAX_WAITING = 16
_RETRY_AFTER_MS = 5000
_MAX_TOLD_BYTES = 16 * 1024  # of a problem, a fault or a manifest
_SAMPLE_BYTES = 4
_PIECE_BYTES = 256 * 1024
# A decoder needs no secrets.
_KEPT_BACK = ("TTS_PROVIDER_", "HF_")
_MANIFEST: TypeAdapter[Manifest | None] = TypeAdapter(Manifest | None)


class _Told(NamedTuple):
    answer: Answer
    content: bytes
    manifest: Manifest | None = None


class Decoders:
    """Decodes as many files at once as there are cores. Others wait in line, and are refused if the
    line is full."""

    def __init__(self) -> None:
        full = f"{_MAX_WAITING} audio files wait to be decoded, which is the limit; try again later"
        self._line = Line(available_cpus(), try_later(full, _RETRY_AFTER_MS), waiting=_MAX_WAITING)
        self._ready: asyncio.Task[Process] | None = None
        self._working: set[Process] = set()
        self._closed = False

    def prepare(self) -> None:
        """Have a process ready for the next file."""
        if self._ready is None and not self._closed:
            self._ready = asyncio.create_task(start_child(CHILD))

    async def decode(
        self, data: bytes | bytearray, *, max_bytes: int, max_audio_s: float
    ) -> Samples:
        """Decode a file as `decode_audio` does. It also raises `InvalidRequest` with the code
        `audio_too_costly` if decoding takes more than it may, and `OverCapacity`. If cancelled, it
        ends the process."""
        samples, _ = await self._in_turn(data, max_bytes, max_audio_s, wants_manifest=False)
        return samples

    async def decode_with_manifest(
        self, data: bytes | bytearray, *, max_bytes: int, max_audio_s: float
    ) -> tuple[Samples, Manifest | None]:
        """Decode a file as `decode` does, and read its manifest as `read_manifest` does. It raises
        what `decode` raises, also if the manifest takes too much or crashes its parser."""
        return await self._in_turn(data, max_bytes, max_audio_s, wants_manifest=True)

    async def _in_turn(
        self, data: bytes | bytearray, max_bytes: int, max_audio_s: float, *, wants_manifest: bool
    ) -> tuple[Samples, Manifest | None]:
        check_size(data, max_bytes)
        async with self._line.place():
            return await self._decode(data, max_audio_s, wants_manifest=wants_manifest)

    async def close(self) -> None:
        """End the process that is ready, and those that work."""
        self._closed = True
        ready, self._ready = self._ready, None
        if ready is not None:
            with contextlib.suppress(OSError):
                await end_child(await ready)
        for process in list(self._working):
            _kill(process)  # and who asked it ends it
            await process.wait()

    async def _decode(
        self, data: bytes | bytearray, max_audio_s: float, *, wants_manifest: bool
    ) -> tuple[Samples, Manifest | None]:
        process = await self._take()
        self._working.add(process)
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            _kill(process)

        timer = asyncio.get_running_loop().call_later(WALL_S, give_up)
        try:
            told = await _ask(process, data, max_audio_s, wants_manifest=wants_manifest)
        finally:
            timer.cancel()
            await end_child(process)
            self._working.discard(process)
            self.prepare()
        if told is not None:
            return _samples(told.answer, told.content), told.manifest
        if is_late:
            raise _too_costly(f"the audio file took more than {WALL_S:g} s to decode")
        raise _ended(process)

    async def _take(self) -> Process:
        ready, self._ready = self._ready, None
        try:
            process = await (ready or start_child(CHILD))
            # The waiting process may have been killed because memory was short.
            return process if process.returncode is None else await start_child(CHILD)
        except OSError as error:
            log.error("no process can be started to decode audio: %s", error)
            raise EngineFailed(
                "the server cannot decode audio now; try again later", code="no_decoder"
            ) from None


async def decode_once(data: bytes, *, max_bytes: int, max_audio_s: float) -> Samples:
    """`Decoders.decode` for a single file."""
    decoders = Decoders()
    try:
        return await decoders.decode(data, max_bytes=max_bytes, max_audio_s=max_audio_s)
    finally:
        await decoders.close()


async def decode_with_manifest_once(
    data: bytes, *, max_bytes: int, max_audio_s: float
) -> tuple[Samples, Manifest | None]:
    """`Decoders.decode_with_manifest` for a single file."""
    decoders = Decoders()
    try:
        return await decoders.decode_with_manifest(
            data, max_bytes=max_bytes, max_audio_s=max_audio_s
        )
    finally:
        await decoders.close()


async def start_child(module: str, *arguments: str, file: BinaryIO | None = None) -> Process:
    """`python -m module …` in a group of its own, without the server's secrets; its standard input
    is that file, or a pipe. `bounded` says what it answers. Raises `OSError`."""
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        options["start_new_session"] = True
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
    # Numpy's linear algebra would allocate memory for every core.
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE if file is None else file,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        **options,
    )


async def _ask(
    process: Process, data: bytes | bytearray, max_audio_s: float, *, wants_manifest: bool
) -> _Told | None:
    """Return its answer; None if it ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):  # then it has ended, and its code says why
        process.stdin.write(JOB.pack(len(data), max_audio_s, wants_manifest))
        view = memoryview(data)
        for start in range(0, len(data), _PIECE_BYTES):  # else asyncio has a copy of it all
            process.stdin.write(view[start : start + _PIECE_BYTES])
            await process.stdin.drain()
    try:
        longest = int(max_audio_s * DECODED_RATE + DECODED_RATE) * _SAMPLE_BYTES
        answer, content = await _read_answer(process.stdout, longest)
        if answer is not Answer.SAMPLES or not wants_manifest:
            return _Told(answer, content)
        _, manifest = await _read_answer(process.stdout, longest)
        return _Told(answer, content, _MANIFEST.validate_json(manifest, strict=True))
    except (asyncio.IncompleteReadError, ConnectionError):
        await process.wait()
        return None
    except ValueError as error:
        log.warning("a decoding process gave an invalid answer: %s", error)
        raise damaged() from None


async def _read_answer(out: StreamReader, longest: int) -> tuple[Answer, bytes]:
    """Read an answer; `longest` is in bytes, of samples. Raises `ValueError` if it is not valid."""
    kind, answer_bytes = ANSWER.unpack(await out.readexactly(ANSWER.size))
    answer = Answer(kind)
    if answer_bytes > (longest if answer is Answer.SAMPLES else _MAX_TOLD_BYTES):
        raise ValueError(f"{answer_bytes} bytes are more than one may tell")
    return answer, await out.readexactly(answer_bytes)


async def end_child(process: Process) -> None:
    _kill(process)
    await process.communicate()  # else what it wrote, unread, keeps its pipe open for ever


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _samples(answer: Answer, content: bytes) -> Samples:
    if answer is Answer.SAMPLES:
        return np.frombuffer(content, np.float32)
    if answer is Answer.PROBLEM:
        code, message = json.loads(content)
        raise InvalidRequest(message, code=code, param="audio")
    log.error("audio could not be decoded:\n%s", content.decode(errors="replace"))
    raise damaged()


def _ended(process: Process) -> InvalidRequest:
    """The error for a process that ended without an answer."""
    code = process.returncode or 0
    if sys.platform != "win32" and -code in (signal.SIGXCPU, signal.SIGKILL):
        return _too_costly(TOO_MUCH_CPU)
    log.warning("a decoding process ended with exit code %s", code)
    return _too_costly(TOO_MUCH_MEMORY) if code > 0 else damaged()


def _too_costly(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="audio_too_costly", param="audio")
