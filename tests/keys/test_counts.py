"""Counts are written behind, and what was written survives `kill -9`."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tts_provider.keys.counts import WRITTEN_EVERY_S, Counts, Place, Usage, read_usage
from tts_provider.keys.store import KeyStore

WRITER = """
import sys, pathlib
from tts_provider.keys import counts

counts.WRITTEN_EVERY_S = 0.01
writing = counts.Counts._write

def write(self, pending):
    requests = sum(usage.requests for usage in pending.values())
    print("writes", requests, flush=True)
    written = writing(self, pending)
    print("wrote", requests, flush=True)
    return written

counts.Counts._write = write
kept = counts.Counts(pathlib.Path(sys.argv[1]))
while True:
    kept.add(counts.Place("anna", "female", "hibari"), counts.Usage(requests=1, characters=2))
"""


@pytest.mark.parametrize(
    "kills",
    [2, pytest.param(10, marks=pytest.mark.slow("5 s: the same again, at other moments"))],
)
def test_kills_lose_what_was_not_written_and_nothing_else(kills: int, tmp_path: Path) -> None:
    """What a server adds is written within a second, so that no more than that can be lost."""
    assert WRITTEN_EVERY_S <= 1.0
    least = most = 0
    with KeyStore(tmp_path) as store:
        store.add("anna")
        for kill in range(kills):
            command = [sys.executable, "-c", WRITER, str(tmp_path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                lines = []
                while len(lines) < 3 + kill:  # within a write, or between two
                    lines.append(process.stdout.readline())
                process.kill()
                lines += process.stdout.readlines()
            told = [line.split() for line in lines if line.endswith("\n")]
            wrote = sum(int(number) for what, number in told if what == "wrote")
            writes = sum(int(number) for what, number in told if what == "writes")
            assert wrote > 0
            (row,) = read_usage(tmp_path)
            assert least + wrote <= row.amount.requests <= most + writes
            assert row.amount.characters == 2 * row.amount.requests
            least = most = row.amount.requests


def test_nothing_is_counted_where_nobody_wants_it(tmp_path: Path) -> None:
    wanted = False
    counts = Counts(tmp_path, lambda: wanted)
    counts.add(Place("anna"), Usage(requests=1))
    assert list(tmp_path.iterdir()) == []
    wanted = True
    counts.add(Place("anna"), Usage(requests=1))
    counts.close()
    assert [row.amount.requests for row in read_usage(tmp_path)] == [1]


def test_all_that_many_threads_add_is_written_once(tmp_path: Path) -> None:
    counts = Counts(tmp_path)

    def add(number: int) -> None:
        for turn in range(500):
            counts.add(Place(f"key-{number % 3}"), Usage(requests=1, audio_samples=number))
            if number == 0 and turn % 50 == 0:
                counts.write()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    counts.close()
    amounts = {row.place.name: row.amount for row in read_usage(tmp_path)}
    assert {name: each.requests for name, each in amounts.items()} == {
        f"key-{number}": 1000 for number in range(3)
    }
    assert sum(each.audio_samples for each in amounts.values()) == 500 * 15
