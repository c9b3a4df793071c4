"""The keys that a running server knows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tts_provider.errors import StartupError, Unauthorized
from tts_provider.keys.caller import ANONYMOUS
from tts_provider.keys.ring import LOOK_EVERY_S, KeyRing
from tts_provider.keys.store import FILE, KeyStore


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + timedelta(seconds=self.now_s)


def refusal(ring: KeyRing, secret: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        ring.find(secret)
    return caught.value.message


def test_without_keys_nobody_needs_one_and_no_file_is_made(tmp_path: Path) -> None:
    ring = KeyRing(folder=tmp_path)
    assert not ring.is_needed
    assert list(tmp_path.iterdir()) == []


def test_an_api_key_is_an_administrator_without_a_name() -> None:
    ring = KeyRing(["one", "two"])
    assert ring.is_needed
    assert ring.find("two") is ANONYMOUS
    assert "not valid" in refusal(ring, "three")
    assert "not valid" in refusal(ring, "\ud800")


def test_a_running_server_sees_every_change_when_it_looks_again(tmp_path: Path) -> None:
    assert LOOK_EVERY_S < 1
    clock = Clock()
    ring = KeyRing(folder=tmp_path, clock=clock)
    assert not ring.is_needed
    with KeyStore(tmp_path) as store:
        secret = store.add("anna")
        clock.now_s += LOOK_EVERY_S
        assert ring.is_needed
        caller = ring.find(secret)
        assert caller.name == "anna"
        other = store.rotate("anna")
        assert ring.find(secret) is caller  # nobody has looked yet
        clock.now_s += LOOK_EVERY_S
        assert "not valid" in refusal(ring, secret)
        assert ring.find(other).name == "anna"
        ring.check(caller)
        store.revoke("anna")
        clock.now_s += LOOK_EVERY_S
        assert refusal(ring, other) == "the API key 'anna' was revoked"
        for ask in (lambda: ring.check(caller), lambda: ring.named("anna")):
            with pytest.raises(Unauthorized, match="was revoked"):
                ask()
    assert ring.is_needed, "the last key that is revoked opens the server to nobody"
    assert KeyRing(folder=tmp_path).is_needed
    assert ring.named(None) is ANONYMOUS
    ring.close()


def test_a_key_expires_while_the_server_runs(tmp_path: Path) -> None:
    clock = Clock()
    with KeyStore(tmp_path) as store:
        secret = store.add("anna", expires=clock.now() + timedelta(seconds=90))
    ring = KeyRing(folder=tmp_path, clock=clock, now=clock.now)
    caller = ring.find(secret)
    clock.now_s = 100
    assert "'anna' expired at" in refusal(ring, secret)
    with pytest.raises(Unauthorized):
        ring.check(caller)
    ring.close()


def test_what_is_used_changes_no_key(tmp_path: Path) -> None:
    clock = Clock()
    with KeyStore(tmp_path) as store:
        secret = store.add("anna")
        ring = KeyRing(folder=tmp_path, clock=clock)
        caller = ring.find(secret)
        store._database.execute("INSERT INTO usage VALUES ('d', 'anna', 'v', 'e', 1, 0, 5, 9)")
        clock.now_s += LOOK_EVERY_S
        assert ring.find(secret) is caller
    ring.close()


def test_a_database_that_was_put_in_its_place_is_read(tmp_path: Path) -> None:
    clock = Clock()
    with KeyStore(tmp_path) as store:
        old = store.add("anna")
    ring = KeyRing(folder=tmp_path, clock=clock)
    with KeyStore(tmp_path / "other") as store:
        new = store.add("ben")
    (tmp_path / "other" / FILE).replace(tmp_path / FILE)
    clock.now_s += LOOK_EVERY_S
    assert ring.find(new).name == "ben"
    assert "not valid" in refusal(ring, old)
    (tmp_path / FILE).unlink()
    clock.now_s += LOOK_EVERY_S
    assert ring.find(new).name == "ben", "who removes the file removes no key from a server"
    ring.close()


def test_keys_that_cannot_be_read_open_the_server_to_nobody(tmp_path: Path, caplog) -> None:
    clock = Clock()
    ring = KeyRing(folder=tmp_path, clock=clock)
    (tmp_path / FILE).write_bytes(b"no database at all, but something else" * 100)
    clock.now_s += LOOK_EVERY_S
    assert ring.is_needed
    assert "not valid" in refusal(ring, "any")
    clock.now_s += LOOK_EVERY_S
    assert ring.is_needed
    assert len([each for each in caplog.records if "cannot be read" in each.message]) == 1
    with pytest.raises(StartupError, match=FILE):
        KeyRing(folder=tmp_path)
    ring.close()


def test_tables_that_are_gone_are_no_open_door(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        store.add("anna")
        store._database.execute("DROP TABLE keys")
    with pytest.raises(StartupError, match="cannot be read: no such table: keys"):
        KeyRing(folder=tmp_path)
