"""Files in a stranger's ZIP archive, unpacked within bounds whatever it says of itself."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from typing import BinaryIO
from urllib.parse import unquote

from tts_provider.jobs.read.limits import (
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_UNPACKED_BYTES,
    damaged,
    too_large,
)


class Archive:
    def __init__(self, file: BinaryIO, kind: str) -> None:
        """Raises `InvalidRequest` where it is no archive; `kind` is what it should be."""
        self._kind = kind
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise damaged(kind, f"it is no ZIP archive ({error})") from None
        if len(self._zip.namelist()) > MAX_ENTRIES:
            raise too_large("the archive", MAX_ENTRIES, "files")
        self._names = {name.lower(): name for name in reversed(self._zip.namelist())}
        self._left_bytes = MAX_UNPACKED_BYTES

    def has(self, name: str) -> bool:
        return name.lower() in self._names

    def read(self, name: str, most_bytes: int = MAX_ENTRY_BYTES) -> bytes:
        """That file; case does not matter, as many books are packed on systems where it does not.
        Raises `InvalidRequest` where there is none, it is damaged, or larger than it may be."""
        own = self._names.get(name.lower())
        if own is None:
            raise damaged(self._kind, f"it has no file {name[:100]!r}")
        most = min(most_bytes, self._left_bytes)
        try:
            with self._zip.open(own) as entry:
                data = entry.read(most + 1)
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
            *(RuntimeError, NotImplementedError, ValueError),
        ) as error:  # a RuntimeError: it is encrypted
            raise damaged(self._kind, f"its file {name[:100]!r} is damaged ({error})") from None
        if len(data) > most:
            raise too_large(f"what is in the {self._kind}, unpacked,", most, "bytes")
        self._left_bytes -= len(data)
        return data


def resolve(base: str, reference: str) -> tuple[str, str]:
    """A reference in the file `base` → a file's name in the archive, and what is behind `#`."""
    path, _, fragment = reference.partition("#")
    path = unquote(path)
    if not path:
        return base, unquote(fragment)
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(base), path))
    return joined.lstrip("/"), unquote(fragment)
