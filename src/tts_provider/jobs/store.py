"""The jobs that were submitted: a row each in SQLite, and a folder each for what belongs to it.

`<data folder>/jobs/jobs.db` has their states. `<data folder>/jobs/<id>/` holds `book.json`, the
parts that are made, and the finished audio. A row is written when its folder is complete and is
removed before its folder is, so whatever ends a process leaves at most a folder without a row,
which `sweep` removes. Any number of servers share the data folder: who works on a job holds the
lock of its parts.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tts_provider.database import open_database, transaction
from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.jobs.book import Book
from tts_provider.jobs.parts import write_file

State = Literal["queued", "working", "done", "failed"]
_OVER = ("done", "failed")

_MIGRATIONS = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        owner TEXT,
        title TEXT NOT NULL,
        fields TEXT NOT NULL,
        state TEXT NOT NULL,
        created REAL NOT NULL,
        changed REAL NOT NULL,
        code TEXT,
        message TEXT,
        bytes INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_state ON jobs (state, created);
    """,
)
_DATABASE = "jobs.db"
_ID = re.compile(r"[0-9a-f]{16}")
_SWEPT_AFTER_S = 3600.0  # a folder without a row, which somebody may be making


@dataclass(frozen=True)
class Job:
    id: str
    owner: str | None
    """The name of the key that submitted it; None where there was none."""
    title: str
    fields: Mapping[str, Any]
    """How it is spoken and encoded, as `server.http.jobs` reads it."""
    state: State
    created: float
    """Seconds since 1970, as all times here."""
    changed: float
    """When its state did."""
    code: str | None = None
    """Of the error that it failed with."""
    message: str | None = None
    size_bytes: int = 0
    """Of its folder, once it is over."""
    folder: Path = field(default_factory=Path, compare=False, repr=False)

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    @property
    def book_path(self) -> Path:
        """What `Book.to_json` gave."""
        return self.folder / "book.json"


class JobStore:
    """From any thread."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made in `folder` until the first job is added."""
        self._folder = folder
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    @property
    def _is_empty(self) -> bool:
        return self._opened is None and not (self._folder / _DATABASE).exists()

    @property
    def _database(self) -> sqlite3.Connection:
        """To be asked for with the lock. Raises `StartupError` where it cannot be used."""
        if self._opened is None:
            self._opened = open_database(self._folder / _DATABASE, _MIGRATIONS)
        return self._opened

    def add(
        self, owner: str | None, book: Book, fields: Mapping[str, Any], *, most: int, most_own: int
    ) -> Job:
        """A job in the queue. Raises `InvalidRequest` where `most` are not over, or `most_own` of
        this owner, and `TTSError` where the folder cannot be written or the disk is full."""
        job = Job(
            secrets.token_hex(8), owner, book.title, fields, "queued", time.time(), time.time()
        )
        folder = self._folder / job.id
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise StartupError(f"cannot write to {self._folder} ({error.strerror})") from None
        try:
            write_file(folder / "book.json", json.dumps(book.to_json()).encode("ascii"))
            with self._lock, transaction(self._database):
                self._check_room(owner, most, most_own)
                self._database.execute(
                    "INSERT INTO jobs (id, owner, title, fields, state, created, changed) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(job.id, owner, job.title, json.dumps(dict(fields))),
                        *(job.state, job.created, job.changed),
                    ),
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._of(self._row(job.id))

    def _check_room(self, owner: str | None, most: int, most_own: int) -> None:
        unfinished = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'working')"
        (count,) = self._database.execute(unfinished).fetchone()
        (own,) = self._database.execute(f"{unfinished} AND owner IS ?", (owner,)).fetchone()
        if count >= most or own >= most_own:
            told, limit = ("", most) if count >= most else (" of yours", most_own)
            raise InvalidRequest(
                f"{limit} jobs{told} are not finished, the limit; "
                "wait until one is done, or remove one",
                code="too_many_jobs",
                http_status=429,
            )

    def get(self, job_id: str) -> Job | None:
        if self._is_empty or _ID.fullmatch(job_id) is None:
            return None
        with self._lock:
            row = self._row(job_id)
        return None if row is None else self._of(row)

    def all(self) -> list[Job]:
        """All of them, the oldest first."""
        if self._is_empty:
            return []
        with self._lock:
            rows = self._database.execute("SELECT * FROM jobs ORDER BY created, id").fetchall()
        return [self._of(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """Those to work on, the oldest first."""
        if self._is_empty:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM jobs WHERE state IN ('queued', 'working') ORDER BY created, id"
            ).fetchall()
        return [self._of(row) for row in rows]

    def change(
        self,
        job_id: str,
        state: State,
        *,
        code: str | None = None,
        message: str | None = None,
        size_bytes: int = 0,
    ) -> Job | None:
        """In that state from now on, with the error that it failed with. None where it is not there
        any more, or was over already: that does not change."""
        with self._lock:
            changed = self._database.execute(
                "UPDATE jobs SET state = ?, changed = ?, code = ?, message = ?, bytes = ? "
                "WHERE id = ? AND state IN ('queued', 'working')",
                (state, time.time(), code, message, size_bytes, job_id),
            )
            row = self._row(job_id) if changed.rowcount else None
        return None if row is None else self._of(row)

    def remove(self, job_id: str) -> bool:
        """Its row and its folder; whether it was there."""
        if self._is_empty or _ID.fullmatch(job_id) is None:
            return False
        with self._lock:
            removed = self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        shutil.rmtree(self._folder / job_id, ignore_errors=True)
        return removed.rowcount > 0

    def sweep(self, *, kept_s: float, most_bytes: int) -> None:
        """Remove jobs that were over so long ago, the oldest of those that take more than so many
        bytes together, and folders that have no row."""
        if self._is_empty:
            return
        over = [job for job in self.all() if job.is_over]
        taken, now = sum(job.size_bytes for job in over), time.time()
        for job in sorted(over, key=lambda one: one.changed):
            if now - job.changed <= kept_s and taken <= most_bytes:
                break
            self.remove(job.id)
            taken -= job.size_bytes
        known = {job.id for job in self.all()}
        for folder in self._folder.iterdir():
            if _ID.fullmatch(folder.name) is None or folder.name in known:
                continue
            with contextlib.suppress(OSError):  # somebody else removes it
                if now - folder.stat().st_mtime > _SWEPT_AFTER_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def _row(self, job_id: str) -> Any:
        return self._database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()

    def _of(self, row: sqlite3.Row) -> Job:
        return Job(
            *(row["id"], row["owner"], row["title"], json.loads(row["fields"]), row["state"]),
            *(row["created"], row["changed"], row["code"], row["message"], row["bytes"]),
            folder=self._folder / row["id"],
        )
