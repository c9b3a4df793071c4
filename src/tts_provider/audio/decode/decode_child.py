"""The process that decodes one file of a stranger, and ends: `python -m` this module.

On its standard input comes a `JOB` and the file; on its standard output goes an `Answer` and what
belongs to it. Before it reads the file, the operating system is told how much it may take.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from enum import IntEnum
from typing import BinaryIO

from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.encode.manifest import read_manifest
from tts_provider.errors import InvalidRequest

JOB = struct.Struct("<Qd?")
"""Bytes of the file, the longest audio in seconds, and whether its manifest is wanted too."""
ANSWER = struct.Struct("<BQ")
"""An `Answer`, and the bytes that follow."""

MEMORY_MIB = 240
"""More than it has when it is ready, which is 50."""
CPU_S = 5
_MIB = 1024 * 1024
_FEW_FILES = 16  # it opens none, but Python may

# What to say of whom the system ended.
TOO_MUCH_CPU = f"the audio file took more than {CPU_S} s to decode"
TOO_MUCH_MEMORY = f"the audio file took more than {MEMORY_MIB} MiB to decode"
_LONGEST_TRACE = 8192


class Answer(IntEnum):
    SAMPLES = 1  # float32
    PROBLEM = 2  # JSON: code, message
    FAULT = 3  # a traceback: ours, not the file's
    MANIFEST = 4  # JSON: a `Manifest` or null. After the samples, where it is wanted


def main() -> None:
    # Both go to all of a terminal's or a service's processes; the server ends us when it drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = sys.stdin.buffer.read(JOB.size)
    if len(job) < JOB.size:
        return  # the server is gone, or needs nobody any more
    data_bytes, max_audio_s, wants_manifest = JOB.unpack(job)
    # The parser of manifests holds a WAV file a second time.
    limit_resources(more_bytes=data_bytes if wants_manifest else 0)
    data = sys.stdin.buffer.read(data_bytes)
    for answer, content in _answers(data, max_audio_s, wants_manifest=wants_manifest):
        _write(sys.stdout.buffer, answer, content)


def _answers(
    data: bytes, max_audio_s: float, *, wants_manifest: bool
) -> Iterator[tuple[Answer, bytes]]:
    manifest = None
    try:
        samples = decode_audio(data, max_bytes=len(data), max_audio_s=max_audio_s)
        if wants_manifest:
            manifest = read_manifest(data)
    except InvalidRequest as problem:
        yield Answer.PROBLEM, json.dumps([problem.code, problem.message]).encode()
    except MemoryError:
        yield Answer.PROBLEM, json.dumps(["audio_too_costly", TOO_MUCH_MEMORY]).encode()
    except Exception:  # noqa: BLE001 - what it is, the server's log says
        yield Answer.FAULT, traceback.format_exc().encode()[-_LONGEST_TRACE:]
    else:
        yield Answer.SAMPLES, samples.tobytes()
        if wants_manifest:
            yield Answer.MANIFEST, json.dumps(manifest and asdict(manifest)).encode()


def _write(out: BinaryIO, answer: Answer, content: bytes) -> None:
    out.write(ANSWER.pack(answer, len(content)) + content)
    out.flush()


def limit_resources(*, more_bytes: int = 0) -> None:
    """Memory (`more_bytes` beyond `MEMORY_MIB`; Linux only: macOS does not keep to it), CPU time,
    files, no child and no core dump. On Windows there is nothing to tell: there the server's clock
    alone ends a decoder."""
    if sys.platform == "win32":
        return
    import resource

    limits = [
        (resource.RLIMIT_CPU, CPU_S + 1),
        (resource.RLIMIT_NOFILE, _FEW_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    os.nice(5)  # speech comes first
    if sys.platform == "linux":
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
        has_bytes = pages * os.sysconf("SC_PAGE_SIZE")
        limits.append((resource.RLIMIT_AS, has_bytes + MEMORY_MIB * _MIB + more_bytes))
    for kind, limit in limits:
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(kind, (limit, limit))
    # A second before the hard one, which kills without saying why.
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(CPU_S, hard), hard))


if __name__ == "__main__":
    main()
