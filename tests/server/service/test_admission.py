from __future__ import annotations

import asyncio
import time

import pytest

from tts_provider.config import Limits
from tts_provider.errors import Draining, EngineFailed, OverCapacity
from tts_provider.server.service.admission import Admission


class Guest:
    """One request, in a task: lets in, stays until told to leave."""

    def __init__(self, admission: Admission, order: list[str], name: str) -> None:
        self.entered, self.leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._stay(admission, order, name))

    async def _stay(self, admission, order, name):
        async with admission.admit():
            order.append(name)
            self.entered.set()
            await self.leave.wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served_and_never_too_many():
    admission, order = Admission(Limits(max_streams=2)), []
    admission.open()
    guests = [Guest(admission, order, name) for name in "abcd"]
    await settle()
    assert (order, admission.active, admission.queued) == (["a", "b"], 2, 2)
    guests[1].leave.set()
    await guests[2].entered.wait()
    assert (order, admission.active, admission.queued) == (["a", "b", "c"], 2, 1)
    for guest in guests:
        guest.leave.set()
    await asyncio.gather(*(guest.task for guest in guests))
    await admission.wait_idle()
    assert (admission.active, admission.queued) == (0, 0)


async def test_nobody_enters_before_it_is_open():
    admission, order = Admission(Limits()), []
    guests = [Guest(admission, order, name) for name in "ab"]
    await settle()
    assert (order, admission.is_open) == ([], False)
    admission.open()
    await settle()
    assert order == ["a", "b"]
    for guest in guests:
        guest.leave.set()
        await guest.task


async def test_a_full_line_turns_away_with_numbers():
    admission, order = Admission(Limits(max_streams=1, max_queued_requests=1)), []
    admission.open()
    guests = [Guest(admission, order, name) for name in "ab"]
    await settle()
    with pytest.raises(OverCapacity, match="all 1 streams are busy and 1 requests wait") as caught:
        async with admission.admit():
            pass
    assert 250 <= caught.value.retry_after_ms <= 30_000
    for guest in guests:
        guest.leave.set()
        await guest.task


@pytest.mark.parametrize(("queued", "spoken_s", "expected_ms"), [(1, 1, 2000), (9, 4, 40_000)])
async def test_who_is_turned_away_is_told_how_long_the_line_takes(
    monkeypatch, queued, spoken_s, expected_ms
):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    admission = Admission(Limits(max_streams=1, max_queued_requests=queued))
    admission.open()
    guests = [Guest(admission, [], str(number)) for number in range(queued + 1)]
    await settle()
    now[0] += spoken_s  # and the first still speaks
    with pytest.raises(OverCapacity) as caught:
        async with admission.admit():
            pass
    assert caught.value.retry_after_ms == expected_ms
    for guest in guests:
        guest.leave.set()
        await guest.task


async def test_leaving_the_line_gives_the_place_up():
    admission, order = Admission(Limits(max_streams=1)), []
    admission.open()
    first, second, third = (Guest(admission, order, name) for name in "abc")
    await settle()
    second.task.cancel()
    await settle()
    assert admission.queued == 1
    first.leave.set()
    await third.entered.wait()
    # Let in and cancelled in the same instant.
    fourth = Guest(admission, order, "d")
    await settle()
    third.leave.set()
    await third.task
    fourth.task.cancel()
    await asyncio.gather(second.task, fourth.task, return_exceptions=True)
    await admission.wait_idle()
    assert (admission.active, admission.queued) == (0, 0)


async def test_draining_refuses_the_new_and_finishes_the_old():
    admission, order = Admission(Limits(max_streams=1)), []
    admission.open()
    guests = [Guest(admission, order, name) for name in "ab"]
    await settle()
    admission.drain()
    with pytest.raises(Draining):
        async with admission.admit():
            pass
    for guest in guests:
        guest.leave.set()
    await admission.wait_idle()
    assert order == ["a", "b"]


async def test_those_who_wait_for_a_model_that_fails_hear_why():
    admission, order = Admission(Limits()), []
    guests = [Guest(admission, order, name) for name in "ab"]
    await settle()
    admission.fail(EngineFailed("no model"))
    for guest in guests:
        with pytest.raises(EngineFailed, match="no model"):
            await guest.task
    assert not admission.is_open


async def test_what_is_in_the_background_gives_its_place_to_a_listener_and_ends_with_the_server():
    admission = Admission(Limits(max_streams=1, max_queued_requests=0))
    admission.open()
    async with admission.borrow() as wanted:
        listener = asyncio.create_task(admission.admit().__aenter__())
        await asyncio.sleep(0)
        assert wanted.is_set()
    await listener
    assert admission.active == 1
    admission._line.leave()
    async with admission.borrow() as wanted:
        admission.drain()
        assert wanted.is_set()
    await admission.wait_idle()
    with pytest.raises(Draining):
        async with admission.borrow():
            pass
