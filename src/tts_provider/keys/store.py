"""Keys, as they are kept: `keys.db` in the data folder, which has no key but only their hashes.

A key is 256 random bits, so there is nothing to guess from its SHA-256, and a slow hash, which
protects passwords that people choose, would only make every request slower.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from tts_provider.database import open_database, transaction
from tts_provider.errors import StartupError, TTSError
from tts_provider.keys.caller import DEFAULT_SCOPES, SCOPES, Caller

FILE = "keys.db"
KEY_PREFIX = "ttsp_"
"""Scanners that look for secrets in source code know a key by it."""

MAX_LIMIT = 1_000_000_000
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_VOICE = re.compile(r"[^\s,\x00-\x1f\x7f]{1,64}")

MIGRATIONS = (
    """
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        voices TEXT,
        requests_per_minute INTEGER,
        characters_per_day INTEGER,
        streams INTEGER,
        created TEXT NOT NULL,
        expires TEXT,
        revoked TEXT
    );
    CREATE TABLE revision (number INTEGER NOT NULL);
    INSERT INTO revision VALUES (1);
    CREATE TABLE usage (
        day TEXT NOT NULL,
        name TEXT NOT NULL,
        voice TEXT NOT NULL,
        engine TEXT NOT NULL,
        requests INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        characters INTEGER NOT NULL,
        audio_samples INTEGER NOT NULL,
        PRIMARY KEY (day, name, voice, engine)
    ) WITHOUT ROWID
    """,
)
"""`revision` changes whenever a key does, so that servers need not read all keys to know."""


@dataclass(frozen=True)
class Limits:
    """How much a key may ask for; None is no limit of its own."""

    requests_per_minute: int | None = None
    characters_per_day: int | None = None
    streams: int | None = None
    """Spoken at once."""


@dataclass(frozen=True)
class Key:
    """All that is known of a key; the key itself was shown once."""

    name: str
    digest: bytes
    created: datetime
    scopes: frozenset[str] = DEFAULT_SCOPES
    voices: tuple[str, ...] | None = None
    limits: Limits = Limits()
    expires: datetime | None = None
    revoked: datetime | None = None

    @cached_property
    def caller(self) -> Caller:
        return Caller(self.name, self.scopes, self.voices, is_administrator="admin" in self.scopes)

    def problem(self, now: datetime) -> str | None:
        """Why it lets nobody in, if so: the end of a sentence."""
        if self.revoked is not None:
            return "was revoked"
        if self.expires is not None and self.expires <= now:
            return f"expired at {self.expires:%Y-%m-%d %H:%M} UTC"
        return None


class KeyStore:
    """Reads and writes the keys of a data folder; a server that runs there sees each change."""

    def __init__(self, folder: Path) -> None:
        """Raises `StartupError`."""
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # who uses what is nobody else's business
        except OSError as error:
            raise StartupError(f"cannot write {path}: {error.strerror}") from None
        self._database = open_database(path, MIGRATIONS)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def list(self) -> list[Key]:
        """All that ever were, by name."""
        return read_keys(self._database)

    def add(
        self,
        name: str,
        scopes: frozenset[str] = DEFAULT_SCOPES,
        *,
        voices: tuple[str, ...] | None = None,
        limits: Limits = Limits(),
        expires: datetime | None = None,
    ) -> str:
        """Make a key, which is returned and kept nowhere.

        Raises `StartupError` for what no key can have, and where the name was given already: what
        a key made belongs to its name, so that no name is given twice.
        """
        _check(name, scopes, voices, limits)
        now = _now()
        if expires is not None and expires <= now:
            raise StartupError(f"--expires must be in the future; {expires.isoformat()} is past")
        secret = new_secret()
        row = {
            "name": name,
            "digest": digest(secret),
            "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
            "voices": None if voices is None else ",".join(voices),
            **{each.name: getattr(limits, each.name) for each in fields(Limits)},
            "created": now.isoformat(),
            "expires": None if expires is None else expires.isoformat(),
        }
        columns, places = ", ".join(row), ", ".join(f":{column}" for column in row)
        with transaction(self._database):
            if self._find(name) is not None:
                raise StartupError(
                    f"there is already a key {name!r}, or there was one; choose another name, or "
                    "replace its secret with tts-provider keys rotate"
                )
            self._database.execute(f"INSERT INTO keys ({columns}) VALUES ({places})", row)
            self._change()
        return secret

    def revoke(self, name: str) -> None:
        """It lets nobody in any more. Raises `TTSError` where there is no such key."""
        with transaction(self._database):
            self._get(name)
            self._database.execute(
                "UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL",
                (_now().isoformat(), name),
            )
            self._change()

    def rotate(self, name: str) -> str:
        """Give it another secret, which is returned; the old one lets nobody in any more.

        Raises `TTSError` where there is no such key, or it was revoked.
        """
        secret = new_secret()
        with transaction(self._database):
            if self._get(name).revoked is not None:
                raise TTSError(f"the key {name!r} was revoked; make another with keys add")
            self._database.execute(
                "UPDATE keys SET digest = ? WHERE name = ?", (digest(secret), name)
            )
            self._change()
        return secret

    def _find(self, name: str) -> Key | None:
        rows = self._database.execute("SELECT * FROM keys WHERE name = ?", (name,)).fetchall()
        return _key(rows[0]) if rows else None

    def _get(self, name: str) -> Key:
        key = self._find(name)
        if key is None:
            known = ", ".join(key.name for key in self.list()) or "none"
            raise TTSError(f"there is no key {name[:64]!r}; there are {known}")
        return key

    def _change(self) -> None:
        self._database.execute("UPDATE revision SET number = number + 1")


def has_keys(folder: Path) -> bool:
    """Whether a key was ever made in this data folder. Raises `StartupError`."""
    if not (folder / FILE).exists():
        return False
    with KeyStore(folder) as store:
        return bool(store.list())


def read_keys(database: sqlite3.Connection) -> list[Key]:
    return [_key(row) for row in database.execute("SELECT * FROM keys ORDER BY name")]


def read_revision(database: sqlite3.Connection) -> int:
    with closing(database.execute("SELECT number FROM revision")) as found:
        number: int = found.fetchone()[0]
    return number


def digest(secret: str) -> bytes:
    # JSON can bring half a surrogate pair, which is no key either.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def new_secret() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def _key(row: Mapping[str, Any] | sqlite3.Row) -> Key:
    return Key(
        name=row["name"],
        digest=row["digest"],
        created=datetime.fromisoformat(row["created"]),
        scopes=frozenset(row["scopes"].split()),
        voices=None if row["voices"] is None else tuple(row["voices"].split(",")),
        limits=Limits(**{each.name: row[each.name] for each in fields(Limits)}),
        expires=None if row["expires"] is None else datetime.fromisoformat(row["expires"]),
        revoked=None if row["revoked"] is None else datetime.fromisoformat(row["revoked"]),
    )


def _check(
    name: str, scopes: frozenset[str], voices: tuple[str, ...] | None, limits: Limits
) -> None:
    if _NAME.fullmatch(name) is None:
        raise StartupError(
            "a key's name must have 1 to 64 letters, digits and . _ @ -, and begin with a letter "
            f"or a digit; got {name[:80]!r}"
        )
    if unknown := sorted(scopes - SCOPES.keys()):
        raise StartupError(
            f"there is no scope {unknown[0][:40]!r}; the scopes are {', '.join(SCOPES)}"
        )
    if not scopes:
        raise StartupError(f"a key needs a scope of {', '.join(SCOPES)}")
    for voice in voices or ():
        if _VOICE.fullmatch(voice) is None:
            raise StartupError(f"{voice[:80]!r} is no voice's id")
    if voices == ():
        raise StartupError("--voices needs a voice's id; leave it out to allow every voice")
    for each in fields(Limits):
        limit = getattr(limits, each.name)
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            flag = "--" + each.name.replace("_", "-")
            raise StartupError(f"{flag} must be 1 to {MAX_LIMIT}, got {limit}")


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
