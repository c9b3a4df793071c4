"""The process that decodes one file from a client, and ends: `python -m` this module.

It reads a `JOB` and the file from standard input, and writes an `Answer` and its content to
standard output. Before it reads the file, it asks the operating system to limit what it may take.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import BinaryIO

from tts_provider.audio.decode.bounded import ANSWER, Answer, limit_resources
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.encode.manifest import read_manifest
from tts_provider.errors import InvalidRequest

JOB = struct.Struct("<Qd?")
"""Bytes of the file, the longest audio in seconds, and whether its manifest is wanted too."""

MEMORY_MIB = 240
"""More than it has when it is ready, which is 50."""
CPU_S = 5

# What to report of a process that the system ended.
TOO_MUCH_CPU = f"the audio file took more than {CPU_S} s to decode"
TOO_MUCH_MEMORY = f"the audio file took more than {MEMORY_MIB} MiB to decode"
_LONGEST_TRACE = 8192


def main() -> None:
    # Both signals go to every process of a terminal or service; the server ends us after draining.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = sys.stdin.buffer.read(JOB.size)
    if len(job) < JOB.size:
        return  # the server is gone, or needs nobody any more
    data_bytes, max_audio_s, wants_manifest = JOB.unpack(job)
    # The manifest parser holds a second copy of a WAV file.
    limit_resources(MEMORY_MIB, CPU_S, more_bytes=data_bytes if wants_manifest else 0)
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


if __name__ == "__main__":
    main()
