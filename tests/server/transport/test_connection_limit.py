"""Who is let in where connections are full."""

from __future__ import annotations

import logging
import sys

import pytest

from tts_provider.server.transport import connection_limit
from tts_provider.server.transport.connection_limit import ConnectionLimit, sockets_allowed


class LimitedConnection:
    def __init__(self, *, is_waiting: bool = True) -> None:
        self.is_waiting = is_waiting
        self.ending = ""

    def refuse(self, problem) -> None:
        self.ending = problem.code

    def reset(self) -> None:
        self.ending = "reset"


def enter(house: ConnectionLimit, *connections: LimitedConnection, inside: int = 0) -> list[str]:
    for number, connection in enumerate(connections, inside + 1):
        house.enter(connection, number)
    return [connection.ending for connection in connections]


def test_the_one_that_waited_longest_makes_room():
    house = ConnectionLimit(2)
    assert enter(house, LimitedConnection(), LimitedConnection(), LimitedConnection()) == [
        "reset",
        "",
        "",
    ]


def test_who_is_at_work_stays_and_the_newest_is_refused():
    house, busy = ConnectionLimit(2), [LimitedConnection(is_waiting=False) for _ in range(2)]
    assert enter(house, *busy, LimitedConnection()) == ["", "", "over_capacity"]


def test_who_waits_again_waits_from_then_on():
    house, first, second = ConnectionLimit(2), LimitedConnection(), LimitedConnection()
    enter(house, first, second)
    house.wait(first)
    enter(house, LimitedConnection(), inside=2)
    assert (first.ending, second.ending) == ("", "reset")


def test_who_left_is_not_ended():
    house, gone = ConnectionLimit(1), LimitedConnection()
    enter(house, gone)
    house.leave(gone)
    enter(house, LimitedConnection(), inside=1)
    assert gone.ending == ""


def test_a_thousand_refusals_are_a_line_a_second(caplog, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(connection_limit.time, "monotonic", lambda: now[0])
    house = ConnectionLimit(1)
    enter(house, *(LimitedConnection() for _ in range(1000)))
    assert len(caplog.records) == 1
    now[0] += 1
    enter(house, LimitedConnection(), inside=1)
    assert [r.getMessage() for r in caplog.records][1:] == [
        "1 connections are open, the limit; 999 were ended or refused for new ones"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="resource is Unix's")
@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "raised"),
    [(1_000_000, 1_000_000, 1024, None), (1024, 65536, 1024, 1408), (512, 512, 128, None)],
)
def test_descriptors(monkeypatch, caplog, soft, hard, allowed, raised):
    import resource

    set_to: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits[0]))
    caplog.set_level(logging.WARNING)
    assert sockets_allowed(1024) == allowed
    assert set_to == ([] if raised is None else [raised])
    assert [r.levelname for r in caplog.records] == (["WARNING"] if allowed < 1024 else [])
