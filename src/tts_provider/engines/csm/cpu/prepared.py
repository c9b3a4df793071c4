"""The folder of prepared weights, which several processes may share.

One process makes a file while the others wait, nobody ever finds a half-made file under its name,
and files that were not used lately are removed. Locks are the system's (`flock`), so they hold
between containers that share a volume, and a killed process keeps none. A file's modification time
says when it was last used.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tts_provider.errors import EngineFailed, StartupError

_POLL_S = 0.1
_SUFFIX = ".safetensors"


class PreparedFolder:
    def __init__(self, folder: Path, max_files: int = 4) -> None:
        """At most `max_files` are kept."""
        self.folder = folder
        self._max_files = max_files
        self._stopping = threading.Event()
        self._growing: Path | None = None

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def stop(self) -> None:
        """Whoever makes a file here stops, soon, and what has grown of it is gone now."""
        self._stopping.set()
        growing = self._growing
        if growing is not None:
            with contextlib.suppress(OSError):
                growing.unlink()

    def check_stop(self) -> None:
        """Raises `EngineFailed` if `stop` was called."""
        if self._stopping.is_set():
            raise EngineFailed("the server stopped while it prepared the weights")

    @contextlib.contextmanager
    def locked(self, key: str, on_progress: Callable[[str], None]) -> Iterator[None]:
        """Nobody else makes `key` meanwhile. Raises `StartupError`, `EngineFailed`."""
        try:
            locks = self.folder / ".locks"
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{key}.lock")
            has_said = False
            while True:
                self.check_stop()
                try:
                    lock.acquire(timeout=_POLL_S, poll_interval=_POLL_S / 2)
                    break
                except Timeout:
                    if not has_said:
                        on_progress(
                            f"another process prepares the same weights in {self.folder}; waiting "
                            "for it"
                        )
                        has_said = True
        except OSError as error:
            raise self.cannot_write(error) from error
        try:
            # The process that left these was killed: nobody else has the lock.
            for stale in self.folder.glob(f"{key}.*.tmp"):
                with contextlib.suppress(OSError):
                    stale.unlink()
            yield
        finally:
            lock.release()

    def write(self, key: str, fill: Callable[[Path], None]) -> None:
        """Make `key` with `fill`, which is given the file to write. Raises `StartupError`."""
        temporary = self.folder / f"{key}.{secrets.token_hex(8)}.tmp"
        self._growing = temporary
        try:
            fill(temporary)
            self.check_stop()
            temporary.replace(self.path(key))
        except OSError as error:
            self.check_stop()  # which took the file away
            raise self.cannot_write(error) from error
        finally:
            self._growing = None
            with contextlib.suppress(OSError):
                temporary.unlink()

    def cannot_write(self, error: OSError) -> StartupError:
        return StartupError(
            f"cannot write the prepared weights to {self.folder} ({error.strerror}); "
            "make room there or choose another folder with --data-dir"
        )

    def used(self, key: str) -> None:
        """Remember that `key` was used, and remove the least recently used file if there are too
        many."""
        with contextlib.suppress(OSError):  # a folder that others prepared, to be read only
            os.utime(self.path(key))
        self.prune({key}, self._max_files)

    def prune(self, keep: set[str], max_files: int) -> list[tuple[Path, int]]:
        """Remove half-made files, and all others but `keep` and the `max_files` used last. Returns
        what was removed, with its bytes."""
        removed: list[tuple[Path, int]] = []
        newest_first = sorted(self.folder.glob(f"*{_SUFFIX}"), key=_used_ns, reverse=True)
        for number, path in enumerate(newest_first):
            if path.stem not in keep and number >= max_files:
                removed += _remove(path)
        for path in self.folder.glob("*.tmp"):
            if self._is_stale(path):
                removed += _remove(path)
        return removed

    def _is_stale(self, temporary: Path) -> bool:
        """Whether nobody makes it: its lock is free."""
        lock = self.folder / ".locks" / f"{temporary.name.split('.')[0]}.lock"
        if temporary == self._growing:
            return False
        try:
            with FileLock(lock, timeout=0):
                return True
        except (Timeout, OSError):
            return not lock.exists()


def _used_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _remove(path: Path) -> list[tuple[Path, int]]:
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError:
        return []
    return [(path, size)]
