from __future__ import annotations

import asyncio

import pytest

from tts_provider.errors import Draining, OverCapacity
from tts_provider.waiting.line import Line, try_later


async def test_so_many_have_a_place_and_so_many_wait():
    line = Line(2, try_later("it is full", 7), waiting=1)
    async with line.place(), line.place():
        assert (line.taken, line.refusal()) == (2, None)
        third = asyncio.create_task(line.enter())
        await asyncio.sleep(0)
        assert (line.taken, line.waiting) == (2, 1)
        with pytest.raises(OverCapacity, match="it is full") as caught:
            await line.enter()
        assert caught.value.retry_after_ms == 7
        assert line.refusal() is not None
        beyond = asyncio.create_task(line.enter(beyond=True))
        await asyncio.sleep(0)
        assert line.waiting == 2
    await asyncio.gather(third, beyond)
    assert (line.taken, line.waiting) == (2, 0)
    line.leave()
    line.leave()
    await line.wait_empty()


async def test_nobody_waits_where_nobody_may():
    line = Line(1, try_later("one"), waiting=0)
    async with line.place():
        with pytest.raises(OverCapacity):
            await line.enter()
    async with line.place():
        pass
    await line.wait_empty()


async def test_a_closed_line_lets_in_who_is_early():
    line = Line(2, is_open=False)
    waiting = asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    await line.enter(early=True)
    assert (line.taken, line.waiting) == (1, 1)
    line.open()
    await waiting
    assert line.taken == 2


async def test_who_waits_in_vain_hears_why():
    line = Line(1)
    await line.enter()
    waiting = asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    line.end(Draining("it is over"))
    with pytest.raises(Draining):
        await waiting
    assert (line.taken, line.waiting) == (1, 0)


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_who_is_cancelled_leaves(is_let_in):
    line = Line(1)
    await line.enter()
    waiting = asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    if is_let_in:
        line.leave()  # and cancelled in the same instant
    waiting.cancel()
    await asyncio.wait({waiting})
    assert (line.taken, line.waiting) == (0 if is_let_in else 1, 0)


async def test_a_borrowed_place_is_given_back_to_who_wants_it():
    line = Line(1, try_later("one"), waiting=0)
    async with line.borrowed() as wanted:
        assert line.taken == 1
        live = asyncio.create_task(line.enter())  # and is not refused
        await asyncio.sleep(0)
        assert wanted.is_set()
        with pytest.raises(OverCapacity):  # the place has been promised
            await line.enter()
        assert not live.done()
    await live
    assert line.taken == 1
    line.leave()
    await line.wait_empty()


async def test_who_borrows_waits_until_nobody_wants_the_place():
    line = Line(1)
    await line.enter()
    borrowed = list[asyncio.Event]()

    async def borrow() -> None:
        async with line.borrowed() as wanted:
            borrowed.append(wanted)
            await wanted.wait()

    borrowing, leaving = asyncio.create_task(borrow()), asyncio.create_task(borrow())
    second = asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    leaving.cancel()
    line.leave()
    await second
    assert (line.taken, borrowed) == (1, [])
    line.leave()
    await asyncio.sleep(0)
    assert (line.taken, len(borrowed)) == (1, 1)
    line.call_back()
    await borrowing
    assert line.taken == 0
    await line.wait_empty()


async def test_who_borrows_and_leaves_at_once_keeps_no_place():
    line = Line(1)
    await line.enter()
    borrowing = asyncio.create_task(line.borrowed().__aenter__())
    await asyncio.sleep(0)
    line.leave()  # which gives it the place
    borrowing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await borrowing
    assert line.taken == 0
    await line.wait_empty()
