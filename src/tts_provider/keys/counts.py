"""What each key used, by day, voice and engine: kept in `keys.db`, written behind.

Whoever speaks adds to numbers in memory. A thread writes them twice a second, so that a server that
is killed loses no more than the last second, and no audio waits for a disk. Where no key has a name
nothing is counted, and no file is made.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from tts_provider.database import open_database, transaction
from tts_provider.errors import StartupError
from tts_provider.keys.store import FILE, MIGRATIONS

log = logging.getLogger(__name__)

WRITTEN_EVERY_S = 0.5
"""Half of what may be lost: a busy machine lets a thread wait."""

SAMPLE_RATE = 24_000
"""Of `audio_samples`."""
_SECONDS_A_DAY = 86_400
_STALE_S = 2.0
_LAST_WRITE_S = 5.0  # when the server stops

_ADD = """
INSERT INTO usage VALUES (:day, :name, :voice, :engine,
    :requests, :failures, :characters, :audio_samples)
ON CONFLICT (day, name, voice, engine) DO UPDATE SET
    requests = requests + excluded.requests,
    failures = failures + excluded.failures,
    characters = characters + excluded.characters,
    audio_samples = audio_samples + excluded.audio_samples
"""


@dataclass(slots=True)
class Usage:
    requests: int = 0
    """To speak: those that were refused for a limit too."""
    failures: int = 0
    """Of them."""
    characters: int = 0
    """Of texts that were taken to be spoken."""
    audio_samples: int = 0
    """That were made."""

    def add(self, other: Usage) -> None:
        self.requests += other.requests
        self.failures += other.failures
        self.characters += other.characters
        self.audio_samples += other.audio_samples


@dataclass(frozen=True)
class Place:
    """What is counted apart."""

    name: str
    """The key's; empty for an `--api-key`."""
    voice: str = ""
    engine: str = ""
    """Both are empty where a request was refused before its voice was known."""


@dataclass(frozen=True)
class Row:
    day: str
    place: Place
    amount: Usage


class Counts:
    """Thread-safe; `add` takes a microsecond."""

    def __init__(
        self,
        folder: Path | None,
        is_wanted: Callable[[], bool] = lambda: True,
        *,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        """`folder` is the data folder. Where it is not wanted yet, nothing is counted."""
        self._path = None if folder is None else folder / FILE
        self._is_wanted = is_wanted
        self._time_s = time_s
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[tuple[int, Place], Usage] = {}
        self._spent: dict[str, int] = {}
        self._spent_day = -1
        self._spent_s = 0.0  # when that was read
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._failed = False

    def add(self, place: Place, amount: Usage) -> None:
        if self._path is None or not self._is_wanted():
            return
        if self._thread is None:
            self._start()
        with self._lock:
            self._add(place, amount)

    def characters_today(self, name: str) -> int:
        """That this key's texts had since midnight, UTC; also before the server was started."""
        with self._lock:
            self._turn_to(self._day())
            return self._spent.get(name, 0)

    def seconds_to_midnight(self) -> float:
        """UTC's."""
        return _SECONDS_A_DAY - self._time_s() % _SECONDS_A_DAY

    def close(self) -> None:
        """Write what is left."""
        if self._thread is not None:
            self._closing.set()
            self._thread.join(_LAST_WRITE_S)
            self._thread = None

    def write(self) -> None:
        """Now, as `close` and the thread do. What cannot be written is kept for the next time."""
        with self._writing:
            self._write_pending()

    def read(self, since: str = "", until: str = "", name: str | None = None) -> list[Row]:
        """As `read_usage`, with what is not written yet. Blocks for milliseconds."""
        if self._path is None:
            return []
        self.write()
        return read_usage(self._path.parent, since=since, until=until, name=name)

    def _write_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            totals = self._write(pending)
        except (StartupError, sqlite3.Error) as error:
            with self._lock:
                for (day, place), amount in pending.items():
                    self._pending.setdefault((day, place), Usage()).add(amount)
            if not self._failed:
                log.warning("what keys used cannot be written, and is kept in memory: %s", error)
            self._failed = True
            return
        self._failed = False
        with self._lock:
            day, spent = totals
            self._know(day, spent)  # beside what came while it was written

    def _day(self) -> int:
        return int(self._time_s() // _SECONDS_A_DAY)

    def _add(self, place: Place, amount: Usage) -> None:
        day = self._day()
        kept = self._pending.get((day, place))
        if kept is None:
            kept = self._pending[day, place] = Usage()
        kept.add(amount)
        if amount.characters and day == self._spent_day:  # else it is read when it is asked for
            self._spent[place.name] = self._spent.get(place.name, 0) + amount.characters

    def _turn_to(self, day: int) -> None:
        """Know what was spent on this day. It is read here, in a millisecond, when the day or the
        server begins, and when nothing was written here for a while: others may have."""
        is_known = day == self._spent_day and self._time_s() - self._spent_s < _STALE_S
        if is_known or self._path is None or not self._path.exists():
            return
        try:
            database = open_database(self._path, MIGRATIONS)
            try:
                self._know(day, _spent_on(database, day))
            finally:
                database.close()
        except (StartupError, sqlite3.Error) as error:
            log.warning("what keys used today cannot be read: %s", error)
            if day != self._spent_day:
                self._know(day, {})

    def _know(self, day: int, spent: Mapping[str, int]) -> None:
        self._spent, self._spent_day, self._spent_s = dict(spent), day, self._time_s()
        for (of_day, place), amount in self._pending.items():
            if of_day == day:
                before = self._spent.get(place.name, 0)
                self._spent[place.name] = before + amount.characters

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="key-counts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(WRITTEN_EVERY_S):
            self.write()
        self.write()

    def _write(self, pending: Mapping[tuple[int, Place], Usage]) -> tuple[int, Mapping[str, int]]:
        """Add these, and say what all servers of the folder count of today."""
        assert self._path is not None
        database = open_database(self._path, MIGRATIONS)
        try:
            with transaction(database):
                database.executemany(_ADD, map(_facts, pending.items()))
            day = self._day()
            return day, _spent_on(database, day)
        finally:
            database.close()


def read_usage(
    folder: Path, *, since: str = "", until: str = "", name: str | None = None
) -> list[Row]:
    """By day, key, voice and engine, from one day on until another, of one key or of all; days are
    as 2026-12-31, and an empty one is no bound.

    Raises `StartupError`, `sqlite3.Error`.
    """
    if not (folder / FILE).exists():
        return []
    database = open_database(folder / FILE, MIGRATIONS)
    try:
        found = database.execute(
            "SELECT * FROM usage WHERE day >= ? AND day <= ? AND (? IS NULL OR name = ?) "
            "ORDER BY day, name, voice, engine",
            (since, until or "9999", name, name),
        )
        return [
            Row(
                row["day"],
                Place(row["name"], row["voice"], row["engine"]),
                Usage(**{each.name: row[each.name] for each in fields(Usage)}),
            )
            for row in found
        ]
    finally:
        database.close()


def _spent_on(database: sqlite3.Connection, day: int) -> dict[str, int]:
    rows = database.execute(
        "SELECT name, SUM(characters) FROM usage WHERE day = ? GROUP BY name", (_date(day),)
    )
    return {row[0]: row[1] for row in rows}


def _facts(item: tuple[tuple[int, Place], Usage]) -> dict[str, str | int]:
    (day, place), amount = item
    return {
        "day": _date(day),
        "name": place.name,
        "voice": place.voice,
        "engine": place.engine,
        **{each.name: getattr(amount, each.name) for each in fields(Usage)},
    }


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * _SECONDS_A_DAY, timezone.utc):%Y-%m-%d}"
