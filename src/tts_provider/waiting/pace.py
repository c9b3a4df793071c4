"""How far what was sent is ahead of who listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """One listener, who hears what was sent at its own speed, from when it came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._heard_until_s = 0.0

    @property
    def ahead_s(self) -> float:
        """What is left to hear; below 0, for how long nothing was."""
        return self._heard_until_s - self._clock()

    def send(self, audio_s: float) -> None:
        """So much more is sent now."""
        self._heard_until_s = max(self._heard_until_s, self._clock()) + audio_s

    async def wait(self, allowed_s: float) -> None:
        """Until no more than this is left to hear."""
        if (ahead_s := self.ahead_s) > allowed_s:
            await asyncio.sleep(ahead_s - allowed_s)
