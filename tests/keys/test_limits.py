"""How much a key may ask for, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from rows import rows
from tts_provider.errors import LimitReached, Unauthorized
from tts_provider.keys.caller import ANONYMOUS, Caller
from tts_provider.keys.counts import Counts, Place, Usage, read_usage
from tts_provider.keys.limits import WINDOW_S, Allowances
from tts_provider.keys.ring import KeyRing
from tts_provider.keys.store import KeyStore, Limits

NOON_S = 20_000 * 86_400 + 43_200.0


class World:
    """One server's limits on a data folder, whose clocks the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.ring = KeyRing(folder=folder, clock=lambda: self.now_s)
        self.counts = Counts(folder, time_s=lambda: NOON_S + self.now_s)
        self.allowances = Allowances(self.ring, self.counts, clock=lambda: self.now_s)

    def close(self) -> None:
        self.counts.close()
        self.ring.close()


@pytest.fixture(name="world")
def make_world(tmp_path):
    with KeyStore(tmp_path) as store:
        limits = Limits(requests_per_minute=100, characters_per_day=1000, streams=2)
        store.add("anna", limits=limits)
        store.add("ben")
    world = World(tmp_path)
    yield world
    world.close()


ANNA, BEN = Caller("anna"), Caller("ben")


def passed(world: World, caller: Caller, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            world.allowances.take_request(caller)
            count += 1
        except LimitReached:
            pass
    return count


def test_of_any_minute_exactly_so_many_requests_pass(world):
    assert passed(world, ANNA, 1000) == 100
    world.now_s = WINDOW_S - 0.001
    with pytest.raises(LimitReached) as caught:
        world.allowances.take_request(ANNA)
    problem = caught.value
    assert (problem.code, problem.http_status) == ("rate_limit_exceeded", 429)
    assert problem.retry_after_ms <= 2
    world.now_s = WINDOW_S
    assert passed(world, ANNA, 60) == 60
    world.now_s = 1.5 * WINDOW_S
    assert passed(world, ANNA, 60) == 40
    assert passed(world, BEN, 500) == passed(world, ANONYMOUS, 500) == 500


def test_streams_end_once_however_often_they_are_ended(world):
    first, _ = world.allowances.begin_stream(ANNA), world.allowances.begin_stream(ANNA)
    for _ in range(2):
        with pytest.raises(LimitReached, match="2 streams spoken at once"):
            world.allowances.begin_stream(ANNA)
        first()
        first()
        first = world.allowances.begin_stream(ANNA)
    with pytest.raises(LimitReached), world.allowances.stream(ANNA):
        pass
    with world.allowances.stream(BEN), world.allowances.stream(ANONYMOUS):
        pass


def test_the_days_characters_survive_a_restart_and_midnight_gives_new_ones(world, tmp_path):
    place = Place("anna", "female", "hibari")
    world.allowances.check_characters(ANNA, 1000)
    world.counts.add(place, Usage(characters=600))
    world.allowances.check_characters(ANNA, 400)
    with pytest.raises(LimitReached) as caught:
        world.allowances.check_characters(ANNA, 401)
    assert caught.value.code == "quota_exceeded"
    assert caught.value.retry_after_ms == 43_200_000
    assert "400 are left until midnight UTC, and the text has 401" in caught.value.message
    world.allowances.check_characters(ANNA, 401, beyond=1)
    world.close()

    again = World(tmp_path)
    with pytest.raises(LimitReached):
        again.allowances.check_characters(ANNA, 401)
    again.allowances.check_characters(BEN, 10**9)
    again.counts.add(place, Usage(characters=-100))
    again.allowances.check_characters(ANNA, 500)
    again.now_s = 43_200
    again.allowances.check_characters(ANNA, 1000)
    again.close()
    (day,) = {row.day for row in read_usage(tmp_path, name="anna") if row.place == place}
    assert day == "2024-10-04"


def test_servers_of_one_folder_count_each_others_characters(world, tmp_path):
    other = World(tmp_path)
    world.counts.add(Place("anna"), Usage(characters=600))
    other.allowances.check_characters(ANNA, 1000)
    world.counts.write()
    other.counts.add(Place("anna"), Usage(characters=300))
    other.counts.write()
    with pytest.raises(LimitReached, match="100 are left"):
        other.allowances.check_characters(ANNA, 101)
    world.now_s += 2  # nothing was written here since
    with pytest.raises(LimitReached, match="100 are left"):
        world.allowances.check_characters(ANNA, 101)
    other.close()


def test_a_limit_counts_as_it_is_now_and_a_revoked_key_has_none(world, tmp_path):
    passed(world, ANNA, 100)
    with KeyStore(tmp_path) as store:
        store._database.execute("UPDATE keys SET requests_per_minute = 50 WHERE name = 'anna'")
        store._database.execute("UPDATE revision SET number = number + 1")
        world.now_s += 1
        with pytest.raises(LimitReached) as caught:
            world.allowances.take_request(ANNA)
        assert caught.value.retry_after_ms == 1000 * (WINDOW_S - 1)
        store.revoke("anna")
    world.now_s += 1
    with pytest.raises(Unauthorized, match="was revoked"):
        world.allowances.take_request(ANNA)


def test_headers_say_what_is_left_as_openai_does(world):
    passed(world, ANNA, 3)
    world.counts.add(Place("anna"), Usage(characters=250))
    assert dict(world.allowances.facts(ANNA)) == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "97",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-characters": "1000",
        "x-ratelimit-remaining-characters": "750",
        "x-ratelimit-reset-characters": "12h0m0s",
    }
    assert world.allowances.facts(BEN) == world.allowances.facts(ANONYMOUS) == []


def test_what_is_refused_is_counted(world, tmp_path):
    passed(world, ANNA, 103)
    world.counts.write()
    (row,) = read_usage(tmp_path)
    assert (row.place, row.amount) == (Place("anna"), Usage(requests=3, failures=3))


@rows(("days", "found"), [(("", ""), 2), (("2024-10-05", ""), 1), (("", "2024-10-04"), 1)])
def test_usage_is_read_by_day(days, found, tmp_path):
    world = World(tmp_path)
    world.counts.add(Place("anna"), Usage(requests=1))
    world.now_s = 86_400
    world.counts.add(Place("anna"), Usage(requests=1))
    world.close()
    since, until = days
    assert len(read_usage(tmp_path, since=since, until=until)) == found
    assert read_usage(tmp_path, name="ben") == []


def test_what_cannot_be_written_waits_in_memory(world, tmp_path, caplog, monkeypatch):
    path = world.counts._path
    world.counts.add(Place("anna"), Usage(characters=600))
    monkeypatch.setattr(world.counts, "_path", tmp_path)  # a folder is no database
    world.counts.write()
    world.counts.write()
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
    with pytest.raises(LimitReached):
        world.allowances.check_characters(ANNA, 401)
    monkeypatch.setattr(world.counts, "_path", path)
    world.counts.write()
    assert [row.amount.characters for row in read_usage(tmp_path)] == [600]
