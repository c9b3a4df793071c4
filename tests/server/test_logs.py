"""A log that a client cannot fill with the same line."""

from __future__ import annotations

import logging

from tts_provider.server.logs import Repeats


def record(at_s: float, level: int = logging.WARNING, message: str = "again") -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "x", "levelno": level, "msg": message})
    made.created = at_s
    return made


def test_of_a_warning_that_repeats_a_few_are_written_and_the_next_tells_of_the_rest():
    repeats = Repeats()
    assert sum(repeats.filter(record(1.0 + n / 10_000)) for n in range(5000)) == 5
    later = record(2.5)
    assert repeats.filter(later)
    assert later.getMessage() == "again (and 4995 more like the last)"
    last = record(9.0)
    assert repeats.filter(last)
    assert last.getMessage() == "again"


def test_other_lines_are_written():
    repeats = Repeats()
    assert all(repeats.filter(record(1.0, logging.INFO)) for _ in range(100))
    assert all(repeats.filter(record(1.0, message=f"{n}")) for n in range(1000))
