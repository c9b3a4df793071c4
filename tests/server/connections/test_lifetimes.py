"""Who owns a task, how far ahead a listener is, who waits in line: without sockets or clocks."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocketDisconnect

from tts_provider.errors import OverCapacity
from tts_provider.server.connections.pace import Pace
from tts_provider.server.connections.tasks import Tasks
from tts_provider.server.service.line import Line


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


async def test_a_listener_hears_at_its_own_speed():
    now_s = 100.0
    pace = Pace(lambda: now_s)
    assert pace.ahead_s < 0
    pace.send(2.0)
    assert pace.ahead_s == 2
    now_s = 101.0
    pace.send(3.0)
    assert pace.ahead_s == 4
    await pace.wait(4.0)
    now_s = 110.0
    assert pace.ahead_s == -5
    pace.send(1.0)  # it begins when it comes
    assert pace.ahead_s == 1


async def test_a_line_has_so_many_places_and_turns():
    line = Line(2, "{} wait", turns=1, retry_after_ms=7)
    with line.place(), line.place():
        assert line.is_full
        with pytest.raises(OverCapacity, match="2 wait") as caught, line.place():
            pass
        assert caught.value.retry_after_ms == 7
        async with line.turn:
            assert line.turn.locked()
    assert not line.is_full
