"""Wrong keys, counted by address and answered late."""

from __future__ import annotations

import asyncio

import pytest

from rows import rows
from tts_provider.keys.guesses import (
    FIRST_WAIT_S,
    FORGOTTEN_AFTER_S,
    FREE_TRIES,
    LONGEST_WAIT_S,
    MOST_ADDRESSES,
    MOST_HELD,
    MOST_HELD_OF_ONE,
    Guesses,
    network_of,
)


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.waited: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.guesses = Guesses(clock=lambda: self.now_s, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        await self.open.wait()


@pytest.fixture(name="world")
async def make_world():
    return World()


async def test_tries_wait_longer_and_are_forgotten(world):
    for _ in range(FREE_TRIES + 20):
        await world.guesses.answer_late("192.0.2.1")
    assert world.waited[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert (len(world.waited), world.waited[-1]) == (20, LONGEST_WAIT_S)
    await world.guesses.answer_late("192.0.2.2")
    world.now_s = FORGOTTEN_AFTER_S + 1
    await world.guesses.answer_late("192.0.2.1")
    assert len(world.waited) == 20


async def test_a_burst_is_a_line_in_the_log(world, caplog):
    for _ in range(1000):
        await world.guesses.answer_late("192.0.2.1")
    assert [record.message for record in caplog.records] == [
        "4 wrong API keys from 192.0.2.1; more are answered late"
    ]
    for _ in range(10):
        world.now_s += FORGOTTEN_AFTER_S / 10
        await world.guesses.answer_late("192.0.2.1")
    assert (
        caplog.records[-1].message == "1006 wrong API keys from 192.0.2.1; more are answered late"
    )
    assert len(caplog.records) == 2


async def test_few_are_held_and_the_table_is_bounded(world):
    world.open.clear()
    one = [asyncio.create_task(world.guesses.answer_late("192.0.2.1")) for _ in range(100)]
    await asyncio.sleep(0)
    assert len(world.waited) == MOST_HELD_OF_ONE
    others = [
        asyncio.create_task(world.guesses.answer_late(f"10.0.{n // 250}.{n % 250}"))
        for n in range(MOST_ADDRESSES)
        for _ in range(FREE_TRIES + 1)
    ]
    await asyncio.sleep(0)
    assert len(world.waited) == MOST_HELD
    assert len(world.guesses._bursts) == MOST_ADDRESSES
    world.open.set()
    await asyncio.gather(*one, *others)
    assert not world.guesses._held


@rows(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_what_one_customer_has(client, network):
    assert network_of(client) == network
