"""How far the sent audio is ahead of its listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """One listener, who hears audio at its own speed from the moment it arrives."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._heard_until_s = 0.0

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that are not heard yet; below 0, the seconds since the audio ran out."""
        return self._heard_until_s - self._clock()

    def send(self, audio_s: float) -> None:
        """Count so much more audio as sent now."""
        self._heard_until_s = max(self._heard_until_s, self._clock()) + audio_s

    async def wait(self, allowed_s: float) -> None:
        """Wait until at most this much audio is not heard yet."""
        if (ahead_s := self.ahead_s) > allowed_s:
            await asyncio.sleep(ahead_s - allowed_s)
