"""Who owns a task: without sockets or clocks."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocketDisconnect

from tts_provider.server.connections.tasks import Tasks


async def test_an_owner_waits_for_what_it_ends_and_forgets_what_ended():
    ended = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a task group would cancel it here again
            ended.append(name)

    async with Tasks() as tasks:
        for _ in range(100):
            await tasks.start(asyncio.sleep(0))
        one = tasks.start(work("one"))
        tasks.start(work("two"))
        await asyncio.sleep(0)
        await tasks.stop(one)
        assert ended == ["one"]
        assert len(tasks) == 1
    assert ended == ["one", "two"]


async def test_an_owner_tells_what_failed_but_no_client_that_left():
    async def fail(error: Exception) -> None:
        raise error

    async with Tasks() as tasks:
        tasks.start(fail(WebSocketDisconnect(1006)))
        await asyncio.sleep(0)
    tasks = Tasks()
    tasks.start(fail(ZeroDivisionError()))
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await tasks.__aexit__()
