"""How far ahead of its listener a session runs, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from server.connections.test_pump import LONG_TEXT, TalkTo
from servers import embedded_engine, running_server
from tts_provider.server.connections import timeline
from tts_provider.speech.engine import Engine
from tts_provider.waiting.pace import Pace

ENGINES: dict[str, Callable[[], Engine | None]] = {
    "espeak": lambda: None,
    "default": embedded_engine,
}


class Clock:
    """The listener's: `move` is how much of the audio it has heard meanwhile."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.moved, self.waited_for = asyncio.Event(), asyncio.Event()

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        self.waited_for.clear()
        self.moved.set()


@pytest.fixture(name="clock")
def use_clock(monkeypatch) -> Clock:
    clock = Clock()

    class ClockedPace(Pace):
        def __init__(self, _: Callable[[], float]) -> None:
            super().__init__(lambda: clock.now_s)

        async def wait(self, allowed_s: float) -> None:
            while self.ahead_s > allowed_s + 1e-9:
                clock.moved.clear()
                clock.waited_for.set()
                await clock.moved.wait()

    monkeypatch.setattr(timeline, "Pace", ClockedPace)
    return clock


@pytest.mark.parametrize(
    ("engine", "ahead_ms"), [("espeak", 400), ("espeak", 2000), ("default", 500)]
)
async def test_it_is_never_further_ahead_than_was_asked_for(clock, engine, ahead_ms):
    """Each time that it waits, all that it may have sent is counted."""
    draw = random.Random(ahead_ms)
    async with running_server(ENGINES[engine]()) as server, TalkTo(server) as talk:
        await talk.tell("session.update", max_ahead_ms=ahead_ms)
        assert (await talk.hear())["max_ahead_ms"] == ahead_ms
        await talk.tell("input_text.append", "c", text=LONG_TEXT)
        sent_ms, heard_ms, furthest_ms = 0, 0, 0
        for _ in range(30):
            await clock.waited_for.wait()
            # What was sent before is heard before the answer to this.
            await talk.tell("session.update", max_ahead_ms=ahead_ms)
            for body in await talk.hear_until("session.updated"):
                sent_ms += body.get("duration_ms", 0)
            assert sent_ms - heard_ms <= ahead_ms
            furthest_ms = max(furthest_ms, sent_ms - heard_ms)
            step_ms = draw.choice((20, 80, 240, ahead_ms))
            heard_ms += step_ms
            clock.move(step_ms / 1000)
        # It uses what it may: pieces are of 80 ms and more.
        assert furthest_ms > ahead_ms - 250
        assert sent_ms > 2 * ahead_ms


async def test_without_being_asked_it_is_as_far_ahead_as_the_server_has_it(clock):
    async with running_server(max_ahead_s=3.0) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "c", text=LONG_TEXT)
        await clock.waited_for.wait()
        await talk.tell("session.update", audio="base64")
        sent = await talk.hear_until("session.updated")
        assert 1500 < sum(body.get("duration_ms", 0) for body in sent) <= 3000
