"""One question, asked of one replica, and of another one where the first is late or lost. Whoever
speaks first is heard, and the other is let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Protocol

from tts_provider.engines.remote.addresses import Address
from tts_provider.engines.remote.frames import Alive, Frame, SamplesFrame, WordsFrame
from tts_provider.engines.remote.hedging.attempt import Arrival, Attempt, Lost
from tts_provider.engines.remote.hedging.continuation import CannotContinue, Continuation, Heard
from tts_provider.engines.remote.hedging.question import Question
from tts_provider.errors import EngineLost, OverCapacity, WireError
from tts_provider.speech.engine import SAMPLE_RATE
from tts_provider.waiting.pace import Pace

log = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3
_RESERVE_S = 0.25
"""A stream that may be far ahead is late when its listener has less left than this."""
_FAR_AHEAD_S = 1.0
_LOOK_AGAIN_S = 0.2
"""While it is not known yet who will be asked."""
_RETRY_AFTER_MS = 1000


class Asker(Protocol):
    """What a race needs of the replicas."""

    def read(
        self,
        attempt: Attempt,
        question: Question,
        *,
        avoid: Address | None,
        is_rescue: bool,
        known_samples: int,
    ) -> AsyncGenerator[Frame, None]:
        """Ask somebody, and yield the answer. Raises `Lost` and `WireError`."""

    def patience_s(self, address: Address) -> float:
        """For how long its first audio is waited for."""

    def rescue(self, late: Address) -> bool:
        """Whether somebody else may be asked what `late` was asked; it is counted as asked."""

    def suspect(self, attempt: Attempt) -> None:
        """Ask the attempt's address how it is; where it says nothing the attempt is lost."""

    def rescued(self, kind: str, outcome: str) -> None:
        """Count how a second request ended."""


class Race:
    def __init__(self, asker: Asker, question: Question) -> None:
        self._asker, self._question = asker, question
        self._loop = asyncio.get_running_loop()
        self._arrivals: asyncio.Queue[Arrival | None] = asyncio.Queue(1)
        self._running: list[Attempt] = []
        self._attempts = 0
        self._speaker: Attempt | None = None
        self._is_heard = False
        self._heard = Heard()
        self._pace = Pace(self._loop.time)
        is_far = question.ahead_s is None or question.ahead_s >= _FAR_AHEAD_S
        self._reserve_s = _RESERVE_S if is_far else 0.0
        self._waiting_s = 0.0
        self._lost: Lost | None = None

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The answer, without its end and signs of life. Raises `WireError`."""
        try:
            self._begin(avoid=None, is_rescue=False)
            while True:
                arrival = await self._next()
                if arrival is None:
                    self._rescue()
                    continue
                attempt, item = arrival.attempt, arrival.item
                if attempt not in self._running or isinstance(item, Alive):
                    continue
                if isinstance(item, Exception):
                    await self._failed(attempt, item)
                    continue
                try:
                    frames = list(self._answer(attempt, item))
                except CannotContinue as reason:
                    assert attempt.address is not None
                    await self._failed(attempt, _lost(f"{attempt.address.url} {reason}"))
                    continue
                if attempt is not self._speaker and (frames or item is None):
                    await self._speaks(attempt, arrival.at_s)
                elif attempt is self._speaker and isinstance(item, SamplesFrame):
                    self._keeps_up(attempt, arrival.at_s)
                for frame in frames:
                    self._is_heard = True
                    if isinstance(frame, SamplesFrame | WordsFrame):
                        self._heard.add(frame)
                    if isinstance(frame, SamplesFrame):
                        self._pace.send(len(frame.samples) / SAMPLE_RATE)
                    yield frame
                if item is None:
                    return
        finally:
            await _close(self._running)

    def _begin(self, *, avoid: Address | None, is_rescue: bool) -> None:
        known = self._heard.count if self._is_heard else 0
        continuation = None
        if self._is_heard:
            continuation = Continuation(self._heard, must_be_same=self._question.has_seed)

        def read(attempt: Attempt) -> AsyncGenerator[Frame, None]:
            return self._asker.read(
                attempt, self._question, avoid=avoid, is_rescue=is_rescue, known_samples=known
            )

        self._attempts += 1
        self._running.append(Attempt(read, self._arrivals, continuation))

    async def _next(self) -> Arrival | None:
        """What comes next; None when somebody is late."""
        self._waiting_s = self._loop.time()
        if not self._arrivals.empty() or (late_s := self._late_s()) is None:
            return await self._arrivals.get()
        waking = self._loop.call_at(late_s, self._wake)
        try:
            return await self._arrivals.get()
        finally:
            waking.cancel()

    def _wake(self) -> None:
        if self._arrivals.empty():
            self._arrivals.put_nowait(None)

    def _late_s(self) -> float | None:
        """When the only one that is asked is late."""
        if not self._question.is_hedged or len(self._running) != 1:
            return None
        attempt = self._running[0]
        if attempt.is_overdue or self._attempts >= _MOST_ATTEMPTS:
            return None
        if attempt.address is None:
            return self._waiting_s + _LOOK_AGAIN_S
        if attempt is not self._speaker:
            return attempt.asked_s + self._asker.patience_s(attempt.address)
        return self._waited_from_s() + attempt.address.lateness.patience_s

    def _waited_from_s(self) -> float:
        """Since when nothing comes, as far as the listener is concerned."""
        dry_s = self._loop.time() + self._pace.ahead_s
        return max(self._waiting_s, dry_s - self._reserve_s)

    def _rescue(self) -> None:
        """Somebody else is asked too, where that is possible."""
        attempt, late_s = self._running[0], self._late_s()
        if attempt.address is None or late_s is None or self._loop.time() < late_s:
            return
        attempt.is_overdue = True
        self._asker.suspect(attempt)
        if self._can_continue(attempt) and self._asker.rescue(attempt.address):
            log.info("%s is late; the gateway also asks another replica", attempt.address.url)
            self._begin(avoid=attempt.address, is_rescue=True)

    def _can_continue(self, attempt: Attempt) -> bool:
        """Whether somebody else can go on with what was heard."""
        if not self._is_heard:
            return True
        return attempt.address is not None and self._question.source in attempt.address.repeats

    def _answer(self, attempt: Attempt, item: Frame | None) -> Iterator[Frame]:
        """What of an attempt's frame is new. Raises `CannotContinue`."""
        if attempt.continuation is None:
            if item is not None:
                yield item
        elif item is None:
            yield from attempt.continuation.finish()
        elif isinstance(item, SamplesFrame | WordsFrame):
            yield from attempt.continuation.push(item)
        else:
            yield item

    def _keeps_up(self, attempt: Attempt, at_s: float) -> None:
        """The speaker's next sound is here."""
        assert attempt.address is not None
        attempt.is_overdue = False
        attempt.address.lateness.add(max(0.0, at_s - self._waited_from_s()))

    async def _speaks(self, winner: Attempt, at_s: float) -> None:
        """It is heard from now on, and the others are let go."""
        others = [attempt for attempt in self._running if attempt is not winner]
        assert winner.address is not None
        kind = "middle" if self._is_heard else "first_audio"
        took_s = at_s - winner.asked_s
        if not self._is_heard:
            if took_s <= self._asker.patience_s(winner.address):
                winner.address.standing.hit()
            winner.address.first_audio.add(took_s)
        for other in others:
            is_second = self._running.index(other) > self._running.index(winner)
            self._asker.rescued(kind, "lost" if is_second else "won")
            if not is_second and other.address is not None:
                other.address.standing.miss(at_s)
                if not self._is_heard:
                    other.address.first_audio.add(at_s - other.asked_s)
        winner.is_overdue = False
        self._speaker, self._running = winner, [winner]
        await _close(others)

    async def _failed(self, attempt: Attempt, error: Exception) -> None:
        """Go on with another one; raises where there is none."""
        self._running.remove(attempt)
        await attempt.close()
        if not isinstance(error, Lost | WireError):
            raise error
        if isinstance(error, Lost):
            error.address.standing.miss(self._loop.time())
            self._asker.suspect(attempt)
        if self._running:
            return
        if isinstance(error, WireError):
            raise error
        before, self._lost = self._lost, error
        if error.in_line and before is not None:
            raise OverCapacity(
                f"all engines are busy: {error}, twice", retry_after_ms=_RETRY_AFTER_MS
            )
        if before is not None or not self._can_continue(attempt):
            raise _lost(str(error))
        log.warning("a request is retried on another replica: %s", error)
        self._begin(avoid=error.address, is_rescue=False)


def _lost(what: str) -> EngineLost:
    return EngineLost(f"the engine was lost: {what}; ask again")


async def _close(attempts: Iterable[Attempt]) -> None:
    await asyncio.gather(*(attempt.close() for attempt in attempts))
