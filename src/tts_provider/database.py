"""SQLite in the data folder: how keys and jobs are kept.

Write-ahead logging lets several processes read and write the same file. A transaction that was
committed survives `kill -9`; a power cut may take the last ones (`synchronous = NORMAL`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tts_provider.errors import StartupError

BUSY_TIMEOUT_S = 5.0
"""How long one process waits for another that is writing."""


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open the database at `path`, or make it, with the newest of its tables.

    `migrations` are SQL scripts, the oldest first. A database remembers how many of them have run
    (`PRAGMA user_version`), so a script that was released never changes and new ones are added
    behind it. The connection commits by itself; `transaction` puts several statements together.
    It may be used from several threads, by one at a time: SQLite and its module serialize calls,
    not transactions.

    Raises StartupError: the file cannot be opened, is something else, or was written by a newer
    version of this program.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise StartupError(f"cannot open the database {path}: {error}") from None
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        _migrate(database, path, migrations)
    except sqlite3.Error as error:
        database.close()
        raise StartupError(
            f"cannot use the database {path}: {error}; move it away to begin with a new one"
        ) from None
    except StartupError:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(database) == len(migrations):
        return
    with transaction(database):  # asked again inside: another process may have been first
        version = _version(database)
        if version > len(migrations):
            raise StartupError(
                f"the database {path} was written by a newer version of tts-provider "
                f"(its tables are version {version}, this program knows {len(migrations)}); "
                "install that version or choose another --data-dir"
            )
        for script in migrations[version:]:
            for statement in filter(None, map(str.strip, script.split(";"))):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All statements within, or none of them. It waits for other writers before it begins."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
