from __future__ import annotations

from tts_provider.engines.remote.addresses import Addresses


def urls(turn):
    return [address.url for address in turn]


def test_everybody_has_a_turn_and_who_is_not_up_has_none():
    addresses = Addresses(["a", "b", "c"])
    assert not addresses.are_up
    assert addresses.in_turn() == []
    a, b, c = addresses
    a.is_up = c.is_up = True
    b.problem = "cannot be reached"
    firsts = [addresses.in_turn()[0].url for _ in range(6)]
    assert {first: firsts.count(first) for first in firsts} == {"a": 3, "c": 3}
    assert addresses.problems() == "b cannot be reached"
    b.is_up = True
    assert {urls(addresses.in_turn())[0] for _ in range(3)} == {"a", "b", "c"}


def test_the_least_busy_is_asked_first():
    addresses = Addresses(["a", "b", "c"])
    for busy, address in enumerate(addresses):
        address.is_up, address.active = True, 5 - busy
    for _ in range(3):
        assert urls(addresses.in_turn()) == ["c", "b", "a"]


def test_who_just_failed_is_asked_last_and_still_asked():
    addresses = Addresses(["a", "b"])
    a, b = addresses
    a.is_up = b.is_up = True
    for _ in range(3):
        assert urls(addresses.in_turn(avoid=a)) == ["b", "a"]
    b.is_up = False
    assert urls(addresses.in_turn(avoid=a)) == ["a"]
