"""What is made of a book so far: a folder with a file a part, that survives whatever ends us.

A part's file is written whole under another name, brought to the disk and then renamed, so each
file that has a part's name is complete: `kill -9`, a full disk and a power cut leave none that is
half. Each has its digest besides, and one that was damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from filelock import FileLock, Timeout

from tts_provider.audio.encode.flac import read_flac, write_flac
from tts_provider.audio.loudness import block_energies
from tts_provider.audio.pcm import Samples
from tts_provider.errors import StartupError, TTSError
from tts_provider.jobs.speaker import Samples16, Speech, TimedWord
from tts_provider.speech.engine import SAMPLE_RATE

VERSION = "1"
"""Of these files; a folder of another version is not gone on with."""
_MAGIC = b"ttspart1"
_HEAD = struct.Struct("<8sI")  # and the bytes of the JSON behind it
_MOST_JSON_BYTES = 64 * 1024 * 1024
_FULL_SCALE = 32767


@dataclass(frozen=True)
class SpokenLine:
    samples: int
    """How many there are."""
    words: tuple[TimedWord, ...]


@dataclass(frozen=True)
class PartFacts:
    """What there is to know of a part without its sound."""

    lines: tuple[SpokenLine, ...]
    energies: tuple[float, ...]
    """Of its blocks, as `audio.loudness` measures them."""
    peak: float
    """The loudest sample, 0 to 1."""

    @property
    def samples(self) -> int:
        return sum(line.samples for line in self.lines)


class FolderTaken(StartupError):
    """Somebody else is at work in it."""


class PartFolder:
    """Parts by their number, and the settings that they were made with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock", thread_local=False)

    def open(self, settings: Mapping[str, str], *, restart: bool = False) -> None:
        """Make the folder, or go on with one that was begun with the same settings; with `restart`
        what is in it goes. Until `close` nobody else is at work in it.

        Raises `FolderTaken`, and `StartupError` that says which settings differ or that nothing can
        be written.
        """
        settings = {"version of these files": VERSION, **settings}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderTaken(f"another process is at work on {self.path}") from None
        except OSError as error:
            raise StartupError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            if restart:
                self._clear()
            self._check(settings)
        except BaseException:
            self.close()
            raise

    def _check(self, settings: Mapping[str, str]) -> None:
        begun = self.settings()
        if begun is None:
            write_file(self.path / "settings.json", json.dumps(settings, indent=1).encode())
            return
        names = [name for name in {**begun, **settings} if begun.get(name) != settings.get(name)]
        if names:
            told = "; ".join(
                f"{name} was {_shown(begun.get(name))} and is {_shown(settings.get(name))}"
                for name in names
            )
            raise StartupError(
                f"{self.path} has half of a book that was begun otherwise: {told}; go on with the "
                "same settings, or begin anew with --restart"
            )

    def settings(self) -> dict[str, str] | None:
        """Those that it was begun with; None where nothing was, or what is there cannot be read."""
        try:
            told = json.loads((self.path / "settings.json").read_bytes())
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def close(self) -> None:
        self._lock.release()

    def remove(self) -> None:
        """All of it. What is no file of ours stays, and its folder with it."""
        self._clear()
        self.close()
        with contextlib.suppress(OSError):
            (self.path / "lock").unlink(missing_ok=True)
            self.path.rmdir()

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._own_files():
                path.unlink()

    def _own_files(self) -> Iterator[Path]:
        for pattern in ("*.part", "*.tmp"):
            yield from self.path.glob(pattern)
        settings = self.path / "settings.json"
        if settings.exists():
            yield settings

    def write(self, number: int, lines: Sequence[Speech]) -> PartFacts:
        """Raises `TTSError` where there is no room."""
        sound = np.concatenate([np.zeros(0, np.int16), *(line.samples for line in lines)])
        samples = to_float(sound)
        flac = write_flac(samples, SAMPLE_RATE) if len(sound) else b""
        told = {
            "sha256": hashlib.sha256(flac).hexdigest(),
            "lines": [
                [
                    len(line.samples),
                    [[w.start, w.end, w.text_start, w.text_end] for w in line.words],
                ]
                for line in lines
            ],
            "energies": [float(f"{energy:.6g}") for energy in block_energies(samples)],
            "peak": float(np.abs(samples).max(initial=0.0)),
        }
        head = json.dumps(told, separators=(",", ":")).encode("ascii")
        path = self._file(number)
        write_file(path, _HEAD.pack(_MAGIC, len(head)) + head + flac)
        return _facts(told)

    def find(self, number: int) -> PartFacts | None:
        """None where it is not made yet, or its file is damaged."""
        try:
            told, flac = self._read(number)
            is_whole = hashlib.sha256(flac).hexdigest() == told["sha256"]
            return _facts(told) if is_whole else None
        except (OSError, ValueError, LookupError, TypeError, struct.error):
            return None

    def numbers(self) -> set[int]:
        """Of the parts that are there, whole or damaged."""
        return {int(path.stem) for path in self.path.glob("*.part") if path.stem.isdecimal()}

    def facts(self, number: int) -> PartFacts:
        """Of a part that `find` found. Raises `TTSError` where it cannot be read any more."""
        try:
            with self._file(number).open("rb") as file:
                _, head_bytes = _HEAD.unpack(file.read(_HEAD.size))
                return _facts(json.loads(file.read(head_bytes)))
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            raise self._unreadable(number, error) from None

    def sound(self, number: int) -> Samples16:
        """Of all its lines, one behind the other. Raises `TTSError` where that cannot be read."""
        try:
            _, flac = self._read(number)
            return read_flac(flac) if flac else np.zeros(0, np.int16)
        except (OSError, ValueError, LookupError, struct.error, av.FFmpegError) as error:
            raise self._unreadable(number, error) from None

    def _unreadable(self, number: int, error: Exception) -> TTSError:
        return TTSError(
            f"{self._file(number)} cannot be read ({error}); the same command makes it again"
        )

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06}.part"

    def _read(self, number: int) -> tuple[dict[str, Any], bytes]:
        data = self._file(number).read_bytes()
        magic, head_bytes = _HEAD.unpack_from(data)
        if magic != _MAGIC or head_bytes > min(len(data), _MOST_JSON_BYTES):
            raise ValueError("it is no part of a book")
        end = _HEAD.size + head_bytes
        return json.loads(data[_HEAD.size : end]), data[end:]


def write_file(path: Path, data: bytes) -> None:
    """All of it or nothing, whatever happens. Raises `TTSError` where there is no room."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TTSError(
            f"cannot write {path}: {error.strerror}; what is made so far is kept, and the same "
            "command goes on with it"
        ) from None


def sync_folder(path: Path) -> None:
    """Bring names to the disk too, where a system can."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def to_float(samples: Samples16) -> Samples:
    """(n,) in [-1, 1]."""
    floats: Samples = np.divide(samples, _FULL_SCALE, dtype=np.float32)
    return floats


def _facts(told: Mapping[str, Any]) -> PartFacts:
    lines = tuple(
        SpokenLine(samples, tuple(TimedWord(*word) for word in words))
        for samples, words in told["lines"]
    )
    return PartFacts(lines, tuple(told["energies"]), told["peak"])


def _shown(value: str | None) -> str:
    return "not set" if value is None else value if len(value) <= 40 else f"{value[:12]}…"
