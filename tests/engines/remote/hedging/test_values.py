"""What decides when a second replica is asked, in plain values: no socket, no clock."""

from __future__ import annotations

import pytest

from rows import rows
from tts_provider.engines.remote.addresses import Addresses
from tts_provider.engines.remote.hedging.budget import Budget
from tts_provider.engines.remote.hedging.latency import Latency, Range
from tts_provider.engines.remote.hedging.standing import Standing

RANGE = Range(floor_s=0.2, ceiling_s=3.0, unknown_s=1.0)


@rows(
    ("seen", "patience_s"),
    [
        ([], 1.0),
        ([0.4] * 15, 1.0),  # too few to know
        ([0.4] * 16, 0.6),
        ([0.001] * 50, 0.2),  # the floor
        ([9.0] * 50, 3.0),  # the ceiling
        ([0.4] * 95 + [9.0] * 5, 0.6),
        ([0.4] * 90 + [1.0] * 10, 1.5),
        ([9.0] * 500 + [0.4] * 128, 0.6),  # what was long ago is forgotten
    ],
)
def test_patience_is_what_it_usually_takes_and_a_half_more(seen, patience_s):
    latency = Latency(RANGE)
    for took_s in seen:
        latency.add(took_s)
    assert latency.patience_s == pytest.approx(patience_s)


@rows(("percent", "requests", "most"), [(2.0, 10_000, 208), (5.0, 100, 13), (0.0, 10_000, 0)])
def test_so_many_of_a_hundred_are_asked_twice_and_a_few_at_once(percent, requests, most):
    budget, spent = Budget(percent), 0
    for _ in range(requests):
        budget.earn()
        spent += budget.spend()
    assert most - 1 <= spent <= most
    for _ in range(requests):
        budget.earn()
    assert [budget.spend() for _ in range(40)].count(True) <= 8


def test_a_larger_cluster_may_have_more_that_are_late_at_once():
    assert [Budget(2, count)._most for count in (1, 2, 3, 64)] == [8, 8, 12, 256]


def test_who_misses_gets_fewer_then_none_then_a_trial_now_and_then():
    standing = Standing()
    shares = []
    for _ in range(3):
        assert not standing.is_aside
        standing.miss(10.0)
        shares.append(standing.share)
    assert shares == [0.5, 0.25, 0.125]
    assert standing.is_aside
    standing.miss(10.5)  # what was begun before tells nothing new
    standing.hit()
    assert standing.share == 0.125
    due = []
    now_s = 10.0
    while len(due) < 7:
        now_s += 0.25
        if standing.is_due(now_s):
            due.append(now_s)
            standing.begin_trial(now_s)
            assert not standing.is_due(now_s)
            standing.miss(now_s)
    pauses = [after - before for before, after in zip([10.0, *due], due, strict=False)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_who_was_set_aside_comes_back_by_one_good_trial_and_not_at_once():
    standing = Standing()
    for _ in range(3):
        standing.miss(0.0)
    standing.begin_trial(1.0)
    standing.hit()
    assert standing.share == 0.25
    for _ in range(15):
        assert standing.share < 1
        standing.hit()
    assert standing.share == 1.0


def test_a_trial_whose_client_left_is_no_verdict_and_another_follows():
    standing = Standing()
    for _ in range(3):
        standing.miss(0.0)
    standing.begin_trial(1.0)
    assert not standing.is_due(1.9)
    assert standing.is_due(2.0)


def up(*names):
    addresses = Addresses(names)
    for address in addresses:
        address.is_up = True
    return addresses, list(addresses)


def test_who_is_half_trusted_gets_fewer_streams():
    addresses, (a, b) = up("a", "b")
    a.standing.miss(0.0)
    given = []
    for _ in range(9):
        first = addresses.in_turn()[0]
        first.active += 1
        given.append(first.url)
    assert given.count("a") == 3
    assert b.active == 6


def test_who_is_set_aside_is_asked_when_due_only_or_where_there_is_nobody_else():
    addresses, (a, b) = up("a", "b")
    for _ in range(3):
        a.standing.miss(0.0)
    assert [x.url for x in addresses.in_turn(now_s=0.5)] == ["b"]
    assert [x.url for x in addresses.in_turn(now_s=1.5)] == ["a", "b"]
    assert [x.url for x in addresses.in_turn(avoid=a, now_s=1.5)] == ["b"]
    assert addresses.patience_s(a) == 0.2, "a trial is not to cost its listener much"
    b.is_up = False
    assert [x.url for x in addresses.in_turn(now_s=0.5)] == ["a"]


@rows(
    ("own_s", "other_s", "patience_s"),
    [(0.4, 0.4, 0.6), (4.0, 0.4, 1.2), (0.4, 4.0, 0.6), (4.0, 4.0, 3.0), (4.0, 0.01, 0.4)],
)
def test_who_is_always_slow_is_late_by_what_others_take(own_s, other_s, patience_s):
    addresses, (a, b) = up("a", "b")
    for _ in range(50):
        a.first_audio.add(own_s)
        b.first_audio.add(other_s)
    assert addresses.patience_s(a) == pytest.approx(patience_s)
    b.is_up = False
    assert addresses.patience_s(a) == pytest.approx(min(1.5 * own_s, 3.0))


def test_where_most_are_set_aside_the_few_others_do_not_bear_it_all():
    addresses, (a, b, c) = up("a", "b", "c")
    for address in (a, b):
        for _ in range(3):
            address.standing.miss(0.0)
    assert len(addresses.in_turn(now_s=9.0)) == 3
    given = []
    for _ in range(20):
        first = addresses.in_turn()[0]
        first.active += 1
        given.append(first)
    assert given.count(c) == 16, "but they bear what their share is"
    assert addresses.rescuers(a) == [c]


def test_who_is_asked_too_is_another_without_a_fault_or_a_balancer_itself():
    addresses, (a, b) = up("a", "b")
    assert addresses.rescuers(a) == [b]
    for _ in range(3):
        b.standing.miss(0.0)
    assert addresses.rescuers(a) == []
    for name in ("one", "one", None):
        a.signed(name)
    assert addresses.rescuers(a) == []
    a.signed("other")
    assert addresses.rescuers(a) == [a]
