"""Keys in the data folder: made, changed, and never kept."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rows import rows
from tts_provider.errors import StartupError, TTSError
from tts_provider.keys.caller import DEFAULT_SCOPES
from tts_provider.keys.store import FILE, KEY_PREFIX, KeyStore, Limits, digest, has_keys

TOMORROW = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)


def test_a_key_is_kept_with_all_that_it_may_and_not_itself(tmp_path: Path) -> None:
    limits = Limits(requests_per_minute=60, characters_per_day=5000, streams=2)
    with KeyStore(tmp_path) as store:
        plain = store.add("anna")
        secret = store.add(
            "ben", frozenset({"speak", "admin"}), voices=("a", "b"), limits=limits, expires=TOMORROW
        )
    with KeyStore(tmp_path) as store:
        anna, ben = store.list()
    assert (anna.scopes, anna.voices, anna.limits) == (DEFAULT_SCOPES, None, Limits())
    assert not anna.caller.is_administrator
    assert (ben.voices, ben.limits, ben.expires) == (("a", "b"), limits, TOMORROW)
    assert ben.caller.is_administrator
    assert ben.digest == digest(secret)
    assert secret.startswith(KEY_PREFIX)
    assert plain != secret
    if os.name == "posix":
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"anna" in kept
    assert secret.encode() not in kept
    assert secret.removeprefix(KEY_PREFIX).encode() not in kept


def test_a_name_is_given_once_and_for_ever(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        store.add("anna")
        store.revoke("anna")
        with pytest.raises(StartupError, match="there is already a key 'anna', or there was one"):
            store.add("anna")


def test_a_rotated_key_is_another_secret_of_the_same_name(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        old = store.add("anna", limits=Limits(streams=3))
        new = store.rotate("anna")
        (anna,) = store.list()
        assert (anna.digest, anna.limits.streams) == (digest(new), 3)
        assert new != old
        store.revoke("anna")
        with pytest.raises(TTSError, match="was revoked"):
            store.rotate("anna")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert not has_keys(tmp_path)
    assert not (tmp_path / FILE).exists()
    with KeyStore(tmp_path) as store:
        store.add("anna")
        for change in (store.revoke, store.rotate):
            with pytest.raises(TTSError, match="there is no key 'ben'; there are anna"):
                change("ben")
    assert has_keys(tmp_path)


@rows(
    ("wrong", "said"),
    [
        ({"name": ""}, "name must have 1 to 64"),
        ({"name": "a b"}, "name must have 1 to 64"),
        ({"name": "a\nb"}, "name must have 1 to 64"),
        ({"name": "a" * 65}, "name must have 1 to 64"),
        ({"name": "é"}, "name must have 1 to 64"),
        ({"scopes": frozenset()}, "needs a scope"),
        ({"scopes": frozenset({"speak", "sing"})}, "no scope 'sing'; the scopes are speak"),
        ({"voices": ()}, "needs a voice's id"),
        ({"voices": ("a b",)}, "no voice's id"),
        ({"voices": ("",)}, "no voice's id"),
        ({"limits": Limits(streams=0)}, "--streams must be 1 to"),
        ({"limits": Limits(requests_per_minute=-1)}, "--requests-per-minute must be 1 to"),
        ({"limits": Limits(characters_per_day=10**12)}, "--characters-per-day must be 1 to"),
        ({"expires": TOMORROW - timedelta(days=2)}, "must be in the future"),
    ],
)
def test_what_no_key_can_have_is_refused(wrong, said, tmp_path):
    with KeyStore(tmp_path) as store:
        with pytest.raises(StartupError, match=said):
            store.add(**{"name": "anna", **wrong})
        assert store.list() == []
