from __future__ import annotations

import asyncio

import pytest

from tts_provider.waiting.leaving import Left, until_left


async def stays():
    await asyncio.Event().wait()


async def leaves():
    await asyncio.sleep(0)
    return {"type": "http.disconnect"}


async def test_work_gives_what_it_gives():
    async def work():
        return 5

    assert await until_left(work(), stays) == 5


async def test_work_raises_what_it_raises():
    async def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await until_left(work(), stays)


async def test_work_ends_in_peace_where_its_client_leaves():
    ended = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(Left):
        await until_left(work(), leaves)
    assert ended


async def test_work_can_give_its_client_up():
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(Left):
        await until_left(work(), stays)


async def test_who_waits_for_it_can_be_cancelled():
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(until_left(work(), stays))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert ended.is_set()
