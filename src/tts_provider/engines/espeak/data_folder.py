"""A temporary folder that is removed with its process, or at the latest when another one starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# There is an instant between making a folder and locking it.
_SAFE_S = 60.0


def make_data_folder(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Make an empty folder, and remove those of processes that were killed (not on Windows)."""
    folder = tempfile.TemporaryDirectory(prefix=prefix)
    if sys.platform != "win32":
        _lock(Path(folder.name))  # until the process ends
        _remove_left_behind(prefix)
    return folder


def _remove_left_behind(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < _SAFE_S:
                continue
            descriptor = _lock(path)
            if descriptor is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)


def _lock(path: Path) -> int | None:
    """The descriptor that holds the folder's lock; None where another process has it."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
