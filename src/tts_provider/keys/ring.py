"""The keys that a server knows: its `--api-key`s, and those of the data folder as they are now."""

from __future__ import annotations

import hmac
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from tts_provider.database import open_database
from tts_provider.errors import StartupError, Unauthorized, UnknownKey
from tts_provider.keys.caller import ANONYMOUS, Caller
from tts_provider.keys.store import FILE, MIGRATIONS, Key, Limits, digest, read_keys, read_revision

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""How old what is known of the data folder may be: looking costs some 10 µs."""

_NO_LIMITS = Limits()


class KeyRing:
    """Used on one thread, the event loop's. Who is let in is asked of what is in memory; the
    database is read when it has changed."""

    def __init__(
        self,
        api_keys: Iterable[str] = (),
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """`folder` is the data folder. Raises `StartupError` where its keys cannot be read: it
        would let in nobody, or everybody."""
        self._api_keys = [digest(key) for key in api_keys]
        self._path = None if folder is None else folder / FILE
        self._clock, self._now = clock, now
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._version: tuple[int, int] | None = None
        self._by_digest: dict[bytes, Key] = {}
        self._by_name: dict[str, Key] = {}
        self._is_unreadable = False
        self._looked_s = clock()
        try:
            self._read()
        except sqlite3.Error as error:
            raise StartupError(f"the keys in {self._path} cannot be read: {error}") from None

    @property
    def is_needed(self) -> bool:
        """Whether a client needs a key: there is one, or was. The last one that is revoked opens
        the server to nobody."""
        self._look()
        return bool(self._api_keys or self._by_name) or self._is_unreadable

    @property
    def has_names(self) -> bool:
        """Whether there are keys in the data folder."""
        self._look()
        return bool(self._by_name)

    def find(self, secret: str) -> Caller:
        """Whose key this is. Raises `Unauthorized`, and `UnknownKey` where it is none."""
        self._look()
        sought = digest(secret)
        # Digests have one length, and every one is compared: the time tells nothing of a key.
        matches = [hmac.compare_digest(sought, known) for known in self._api_keys]
        if any(matches):
            return ANONYMOUS
        # How long this takes tells something of a digest, whose key nobody can choose.
        key = self._by_digest.get(sought)
        if key is None:
            raise UnknownKey("the API key is not valid here")
        return self._valid(key)

    def check(self, caller: Caller) -> None:
        """Raises `Unauthorized` where the key of a connection that is open lets nobody in now."""
        if caller.name is not None:
            self._look()
            key = self._by_name.get(caller.name)
            if key is None:
                raise Unauthorized(f"the API key {caller.name!r} is not valid here any more")
            self._valid(key)

    def limits(self, name: str) -> Limits:
        """The limits of the key of that name, as they are now."""
        self._look()
        key = self._by_name.get(name)
        return _NO_LIMITS if key is None else key.limits

    def named(self, name: str | None) -> Caller:
        """Whom work is for that this key has left here; None is an administrator.

        Raises `Unauthorized` where the key lets nobody in now.
        """
        if name is None:
            return ANONYMOUS
        self._look()
        if name not in self._by_name:
            raise Unauthorized(f"there is no API key {name!r} any more")
        return self._valid(self._by_name[name])

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _valid(self, key: Key) -> Caller:
        if (problem := key.problem(self._now())) is not None:
            raise Unauthorized(f"the API key {key.name!r} {problem}")
        return key.caller

    def _look(self) -> None:
        """Read what changed, at most every `LOOK_EVERY_S`. What cannot be read leaves what was
        known; who cannot know its keys lets nobody in by them."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            self._read()
        except (StartupError, sqlite3.Error) as error:
            if not self._is_unreadable:
                log.error("the keys in the data folder cannot be read: %s", error)
            self._is_unreadable = True

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            about = self._path.stat()
        except OSError:
            return  # there are none yet; those that were there are known still
        file = about.st_dev, about.st_ino
        if self._database is None or file != self._file:
            self.close()
            self._database, self._version = open_database(self._path, MIGRATIONS), None
            self._file = file
        changes: int = self._database.execute("PRAGMA data_version").fetchone()[0]
        if self._version is None or self._version[0] != changes:
            # Other processes write what was used each second: that changes no key.
            revision = read_revision(self._database)
            if self._version is None or self._version[1] != revision:
                keys = read_keys(self._database)
                self._by_digest = {key.digest: key for key in keys}
                self._by_name = {key.name: key for key in keys}
            self._version = changes, revision
        self._is_unreadable = False
