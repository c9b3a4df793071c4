"""How much a key may ask for, and whether it may ask now.

Requests in any minute and streams at once are known in memory, by each server for itself; the
day's characters are counted by all servers of a data folder. Everything here happens on the event
loop without a pause, so that limits are exact however many ask at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tts_provider.errors import LimitReached
from tts_provider.keys.caller import Caller
from tts_provider.keys.counts import Counts, Place, Usage
from tts_provider.keys.ring import KeyRing
from tts_provider.keys.store import Limits

WINDOW_S = 60.0
_STREAM_RETRY_MS = 1000


class Allowances:
    """Of every key with a name; those without have the server's own limits only."""

    def __init__(
        self, keys: KeyRing, counts: Counts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.keys, self.counts = keys, counts
        self._clock = clock
        # A token bucket lets through twice its size in the minute that empties and fills it.
        self._asked: dict[str, deque[float]] = {}
        self._streams: dict[str, int] = {}

    def limits(self, caller: Caller) -> Limits:
        """The caller's, as they are now."""
        return Limits() if caller.name is None else self.keys.limits(caller.name)

    def take_request(self, caller: Caller) -> None:
        """Count a request. Raises `LimitReached`, and `Unauthorized` where the key of a connection
        lets nobody in any more."""
        self.keys.check(caller)
        name = caller.name
        if name is None or (limit := self.keys.limits(name).requests_per_minute) is None:
            return
        asked, now_s = self._recent(name)
        if len(asked) >= limit:
            self._refused(name)
            raise LimitReached(
                f"the API key {name!r} may ask {limit} times in a minute; try again later",
                code="rate_limit_exceeded",
                retry_after_ms=_ms(asked[len(asked) - limit] + WINDOW_S - now_s),
            )
        asked.append(now_s)

    def begin_stream(self, caller: Caller) -> Callable[[], None]:
        """A place to speak of the caller's own; what is returned gives it back. Raises
        `LimitReached`."""
        name = caller.name
        if name is None:
            return _nothing
        limit, streams = self.keys.limits(name).streams, self._streams.get(name, 0)
        if limit is not None and streams >= limit:
            self._refused(name)
            raise LimitReached(
                f"the API key {name!r} may have {limit} streams spoken at once; wait for one to "
                "end",
                code="too_many_streams",
                retry_after_ms=_STREAM_RETRY_MS,
            )
        self._streams[name] = streams + 1
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._streams[name] -= 1
                if not self._streams[name]:
                    del self._streams[name]

        return end

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        """The same, for as long as it lasts."""
        end = self.begin_stream(caller)
        try:
            yield
        finally:
            end()

    def check_characters(self, caller: Caller, characters: int, *, beyond: int = 0) -> None:
        """Whether so many may be spoken yet; one that has begun may go that far beyond its limit.
        Raises `LimitReached`."""
        name = caller.name
        if name is None or (limit := self.keys.limits(name).characters_per_day) is None:
            return
        spent = self.counts.characters_today(name)
        if spent + characters > limit + beyond:
            self._refused(name)
            left = max(limit - spent, 0)
            raise LimitReached(
                f"the API key {name!r} may have {limit} characters spoken a day; {left} are left "
                f"until midnight UTC, and the text has {characters}",
                code="quota_exceeded",
                retry_after_ms=_ms(self.counts.seconds_to_midnight()),
            )

    def facts(self, caller: Caller) -> list[tuple[str, str]]:
        """What OpenAI's API tells of limits in headers, with characters where that has tokens."""
        name = caller.name
        if name is None:
            return []
        limits, facts = self.keys.limits(name), []
        if (limit := limits.requests_per_minute) is not None:
            asked, now_s = self._recent(name)
            reset_s = asked[-1] + WINDOW_S - now_s if asked else 0.0
            facts += _facts("requests", limit, limit - len(asked), reset_s)
        if (limit := limits.characters_per_day) is not None:
            left = limit - self.counts.characters_today(name)
            facts += _facts("characters", limit, left, self.counts.seconds_to_midnight())
        return facts

    def _recent(self, name: str) -> tuple[deque[float], float]:
        """When it asked within the last minute, and now."""
        now_s = self._clock()
        asked = self._asked.setdefault(name, deque())
        while asked and asked[0] <= now_s - WINDOW_S:
            asked.popleft()
        return asked, now_s

    def _refused(self, name: str) -> None:
        self.counts.add(Place(name), Usage(requests=1, failures=1))


def _facts(what: str, limit: int, left: int, reset_s: float) -> list[tuple[str, str]]:
    return [
        (f"x-ratelimit-limit-{what}", str(limit)),
        (f"x-ratelimit-remaining-{what}", str(max(left, 0))),
        (f"x-ratelimit-reset-{what}", _duration(reset_s)),
    ]


def _duration(seconds: float) -> str:
    """As OpenAI writes them: 1h2m3s."""
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return (
        (f"{hours}h" if hours else "") + (f"{minutes}m" if whole >= 60 else "") + f"{whole % 60}s"
    )


def _ms(seconds: float) -> int:
    return max(math.ceil(1000 * seconds), 1)


def _nothing() -> None:
    pass
