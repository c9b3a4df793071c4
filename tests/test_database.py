"""SQLite in the data folder: made once, shared by processes, refused where it is something else."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tts_provider.database import open_database, transaction
from tts_provider.errors import StartupError

FIRST = "CREATE TABLE words (word TEXT PRIMARY KEY); CREATE INDEX by_word ON words (word);"
SECOND = "ALTER TABLE words ADD COLUMN heard INTEGER NOT NULL DEFAULT 0"


def test_a_database_gets_the_tables_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "words.db"
    old = open_database(path, [FIRST])
    old.execute("INSERT INTO words VALUES ('hello')")
    old.close()
    new = open_database(path, [FIRST, SECOND])
    assert [tuple(row) for row in new.execute("SELECT * FROM words")] == [("hello", 0)]
    assert new.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    new.close()


def test_several_that_open_it_at_once_make_it_once(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_database(path, [FIRST, SECOND]), range(8)))
    assert [db.execute("PRAGMA user_version").fetchone()[0] for db in opened] == [2] * 8
    for database in opened:
        database.close()


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    database = open_database(tmp_path / "words.db", [FIRST])

    def write_twice() -> None:
        with transaction(database):
            for _ in range(2):
                database.execute("INSERT INTO words VALUES ('hello')")

    with pytest.raises(sqlite3.IntegrityError):
        write_twice()
    with transaction(database):
        database.execute("INSERT INTO words VALUES ('world')")
    assert [row["word"] for row in database.execute("SELECT word FROM words")] == ["world"]
    database.close()


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    path.write_text("a text, and a long one. " * 100)
    with pytest.raises(StartupError, match=r"cannot use the database .*words\.db: .*move it away"):
        open_database(path, [FIRST])
    with pytest.raises(StartupError, match="cannot open the database"):
        open_database(path / "below.db", [FIRST])
    newer = tmp_path / "newer.db"
    open_database(newer, [FIRST, SECOND]).close()
    with pytest.raises(StartupError, match=r"newer version of tts-provider.*version 2.*knows 1"):
        open_database(newer, [FIRST])
