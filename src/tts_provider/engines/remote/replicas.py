"""The replicas behind some addresses: one after the other is asked, and what comes back is read.

An address that does not answer is set aside, and asked how it is each second until it does. One
whose requests are late or lost is given fewer, then none, then one now and then. A replica that
falls silent or breaks off is lost: another one is asked, before the first audio always, and behind
it where that is the same speech (`hedging/race.py`). One that does what no replica does is lost as
well, and its address is set aside for longer each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from weakref import WeakSet

from tts_provider.engines.remote.addresses import Address, Addresses
from tts_provider.engines.remote.client import (
    SILENCE_S,
    Answer,
    BrokenOff,
    Client,
    Silent,
    Unreachable,
)
from tts_provider.engines.remote.frames import Bounds, End, Frame, NotOurs
from tts_provider.engines.remote.hedging.attempt import Attempt, Lost
from tts_provider.engines.remote.hedging.budget import Budget
from tts_provider.engines.remote.hedging.question import Question
from tts_provider.engines.remote.hedging.race import Race
from tts_provider.engines.remote.messages import Description, read_message
from tts_provider.engines.remote.metrics import GatewayMetrics
from tts_provider.errors import EngineLost, InvalidRequest, OverCapacity, WireError

log = logging.getLogger(__name__)

_PROBE_S = 1.0
"""Between two questions to an address that is set aside; the others are asked less often."""
_HEALTHY_PROBE_S = 5.0
_PROBE_TIMEOUT_S = 3.0
_SUSPECT_TIMEOUT_S = 2.0
"""Who is late is asked so: listeners wait for what is decided then. A replica that has too much to
do answers within it, and would have more to do if it were thought lost."""
HEDGE_PERCENT = 2.0
_REFUSAL_TIMEOUT_S = 5.0
_LONGEST_PAUSE_S = 30.0
"""For which an address is not asked that does what no replica does, whatever it says of itself."""
_PATIENCE_S = 20.0
"""How long what was begun waits for a place."""
_ASK_AGAIN_S = (0.05, 2.0)
_RETRY_AFTER_MS = 1000
# What a replica says that is there and takes nothing new.
_AWAY_CODES = ("loading", "draining")
_NOT_ASKED = "none"


class Replicas:
    def __init__(
        self,
        urls: Sequence[str],
        key: str | None,
        on_described: Callable[[Description], None],
        *,
        silence_s: float = SILENCE_S,
        hedge_percent: float = HEDGE_PERCENT,
    ) -> None:
        """So many of a hundred requests may be made twice."""
        self.addresses = Addresses(urls)
        self._budget = Budget(hedge_percent, len(urls))
        self._suspects = WeakSet[Attempt]()
        self.counts = GatewayMetrics()
        for address in self.addresses:
            self.counts.is_up(address.url, False)
            self.counts.show_share(address.url, partial(getattr, address.standing, "share"))
        self._on_described = on_described
        self._client = Client(key, silence_s=silence_s)
        self._probes: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    async def probe(self) -> None:
        """Ask all addresses how they are."""
        await asyncio.gather(*(self._probe(each, _PROBE_TIMEOUT_S) for each in self.addresses))

    def watch(self) -> None:
        """From now on keep asking."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        tasks = [*self._probes, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def nobody(self) -> EngineLost:
        """What is said where no address is up."""
        return EngineLost(f"no engine can be reached: {self.addresses.problems()}")

    def ask(self, question: Question) -> AsyncGenerator[Frame, None]:
        """What replicas answer to this, the last frame left out.

        Raises `EngineLost`, `OverCapacity`, and what the engine raises there.
        """
        self._budget.earn()
        return Race(self, question).frames()

    async def read(
        self,
        attempt: Attempt,
        question: Question,
        *,
        avoid: Address | None,
        is_rescue: bool,
        known_samples: int,
    ) -> AsyncGenerator[Frame, None]:
        """Ask one after the other until somebody answers, and yield the answer. Raises `Lost`, and
        `WireError` as `ask`."""
        address, answer = await self._open(attempt, question, avoid, is_rescue, known_samples)
        async with aclosing(self._read(address, answer, question.bounds)) as frames:
            async for frame in frames:
                yield frame

    def patience_s(self, address: Address) -> float:
        return self.addresses.patience_s(address)

    def rescue(self, late: Address) -> bool:
        if not self.addresses.rescuers(late):
            return False
        if late.standing.is_aside or self._budget.spend():
            return True
        self.rescued("any", "refused")
        return False

    def rescued(self, kind: str, outcome: str) -> None:
        self.counts.rescued(kind, outcome)

    def suspect(self, attempt: Attempt) -> None:
        self._suspects.add(attempt)
        if attempt.address is not None and attempt.address.is_up:
            self._suspect(attempt.address, _SUSPECT_TIMEOUT_S)

    async def _open(
        self,
        attempt: Attempt,
        question: Question,
        avoid: Address | None,
        is_rescue: bool,
        known_samples: int,
    ) -> tuple[Address, Answer]:
        """An answer of status 200. Raises `Lost`, and `WireError` as `ask`."""
        loop = asyncio.get_running_loop()
        waits = question.waits or is_rescue or known_samples > 0
        give_up_s = loop.time() + (_PATIENCE_S if waits else 0.0)
        body = question.encode(known_samples)
        while True:
            busy: OverCapacity | None = None
            if is_rescue and avoid is not None:
                turn = self.addresses.rescuers(avoid)
            else:
                turn = self.addresses.in_turn(avoid, loop.time())
            for address in turn:
                if known_samples and question.source not in address.repeats:
                    continue
                attempt.ask(address)
                if address.standing.is_aside:
                    address.standing.begin_trial(loop.time())
                # Who asks a balancer again must not be sent to the same replica.
                headers = {} if address is avoid else question.headers
                address.active += 1
                try:
                    answer = await self._send(address, question.path, body, headers)
                    if answer is not None and answer.status == 200:
                        address.active += 1  # until `_read` is done
                        address.signed(answer.replica)
                        return address, answer
                finally:
                    address.active -= 1
                if answer is None:
                    continue
                problem = await self._read_refusal(address, answer)
                if isinstance(problem, OverCapacity):
                    busy = problem
                elif problem is not None:
                    self.counts.ended(answer.replica or address.url, problem.code)
                    raise problem
            if busy is None and known_samples and self.addresses.are_up:
                raise EngineLost("no other engine can go on with what was heard; ask again")
            if busy is None:
                raise self.nobody()
            attempt.address = None
            low, high = _ASK_AGAIN_S
            wait_s = min(max(busy.retry_after_ms / 1000, low), high)
            if loop.time() + wait_s > give_up_s:
                self.counts.ended(_NOT_ASKED, busy.code)
                raise busy
            await asyncio.sleep(wait_s)

    async def _send(
        self, address: Address, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | None:
        """The answer's head; None where the address is set aside. Raises `Lost`."""
        asked_s = asyncio.get_running_loop().time()
        try:
            return await self._client.post(address.url, path, body, headers)
        except Unreachable as error:
            self._set_aside(address, str(error))
        except BrokenOff as error:
            self.counts.ended(address.url, "lost")
            in_line = isinstance(error, Silent) and address.heard_s > asked_s
            raise Lost(address, str(error), in_line=in_line) from error
        except NotOurs as error:
            self._distrust(address, str(error))
        return None

    async def _read(
        self, address: Address, answer: Answer, bounds: Bounds
    ) -> AsyncGenerator[Frame, None]:
        """Frames until the last one. Raises `Lost`, and the error that a replica tells."""
        loop = asyncio.get_running_loop()
        outcome = "cancelled"
        try:
            async with aclosing(answer.frames(bounds)) as frames:
                async for frame in frames:
                    address.heard_s = loop.time()
                    if isinstance(frame, WireError):
                        raise frame
                    if isinstance(frame, End):
                        outcome, address.pause_s = "spoken", 0.0
                    else:
                        yield frame
        except BrokenOff as error:
            outcome = "lost"
            raise Lost(address, str(error)) from error
        except NotOurs as error:
            outcome = "lost"
            self._distrust(address, str(error))
            raise Lost(address, str(error)) from error
        except WireError as problem:
            outcome = problem.code
            raise
        finally:
            address.active -= 1
            self.counts.ended(answer.replica or address.url, outcome)
            await answer.close()

    async def _read_refusal(self, address: Address, answer: Answer) -> WireError | None:
        """Why a request was not taken; None where the address is set aside. Raises `Lost`."""
        try:
            problem = await answer.problem(timeout_s=_REFUSAL_TIMEOUT_S)
        except BrokenOff as error:
            self.counts.ended(answer.replica or address.url, "lost")
            raise Lost(address, str(error)) from error
        except NotOurs as error:
            self._distrust(address, str(error))
            return None
        finally:
            await answer.close()
        status = answer.status
        if problem is not None and problem.code in _AWAY_CODES:
            self._set_aside(address, f"says: {problem.message}")
            return None
        if status in (401, 403):
            reason = refusal(status) if problem is None else f"says: {problem.message}"
            self._set_aside(address, reason, is_refused=True)
            return None
        if problem is not None:
            return problem
        if status == 503:  # of Ray, or a balancer
            return OverCapacity(
                "all engines are busy; try again later",
                retry_after_ms=answer.retry_after_ms or _RETRY_AFTER_MS,
            )
        if status == 404:
            self._set_aside(address, refusal(status))
            return None
        self.counts.ended(answer.replica or address.url, "lost")
        raise Lost(address, f"answered with the status {status}")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PROBE_S)
            for address in self.addresses:
                every_s = _HEALTHY_PROBE_S if address.is_up else address.pause_s
                if loop.time() - address.asked_s > every_s:
                    self._suspect(address, _PROBE_TIMEOUT_S)

    def _suspect(self, address: Address, timeout_s: float) -> None:
        """Ask it how it is, now."""
        if not address.is_asked:
            probe = asyncio.create_task(self._probe(address, timeout_s))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, address: Address, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        address.asked_s, address.is_asked = loop.time(), True
        try:
            await self._describe(address, timeout_s)
        except Unreachable as error:
            self._set_aside(address, str(error))
        except Silent as error:
            # A queue before busy replicas keeps the question waiting, and lets their audio pass.
            if address.heard_s < address.asked_s:
                self._set_aside(address, str(error))
                for attempt in self._suspects:
                    if attempt.is_overdue and attempt.address is address:
                        attempt.lose(str(error))
        except BrokenOff as error:
            self._set_aside(address, str(error))
        except NotOurs as error:
            self._distrust(address, str(error))
        except InvalidRequest as error:
            self._distrust(address, f"is no engine of this release: {error}")
        finally:
            address.is_asked = False

    async def _describe(self, address: Address, timeout_s: float) -> None:
        """Ask an address how it is, and take what it says. Raises what is wrong with it."""
        loop = asyncio.get_running_loop()
        answer = await self._client.get(address.url, "/describe", timeout_s=timeout_s)
        left_s = max(0.0, address.asked_s + timeout_s - loop.time())
        try:
            if answer.status == 200:
                self._take(address, read_message(Description, await answer.body(timeout_s=left_s)))
                return
            problem = await answer.problem(timeout_s=left_s)
        finally:
            await answer.close()
        status = answer.status
        # Of a replica that is full, or of Ray: nobody is asked in vain.
        is_busy = status == 503 and (problem is None or problem.code not in _AWAY_CODES)
        if is_busy and address.is_up:
            return
        reason = refusal(status) if problem is None else f"says: {problem.message}"
        self._set_aside(address, reason, is_refused=status in (401, 403))

    def _take(self, address: Address, described: Description) -> None:
        if not address.is_up:
            address.is_up, address.is_refused = True, False
            self.counts.is_up(address.url, True)
            log.info("%s speaks with %s on %s", address.url, described.engine, described.device)
        address.repeats = frozenset(described.repeats)
        address.signed(described.replica)
        self._on_described(described)

    def _set_aside(self, address: Address, problem: str, *, is_refused: bool = False) -> None:
        if address.is_up:
            log.warning("%s is set aside: it %s", address.url, problem)
            self.counts.is_up(address.url, False)
        address.is_up, address.problem, address.is_refused = False, problem, is_refused

    def _distrust(self, address: Address, problem: str) -> None:
        """It does what no replica does: it is left alone, each time for longer."""
        address.pause_s = min(max(_PROBE_S, 2 * address.pause_s), _LONGEST_PAUSE_S)
        address.asked_s = asyncio.get_running_loop().time()
        self._set_aside(address, problem, is_refused=True)


def refusal(status: int) -> str:
    """What a status means that is not a replica's own refusal, in words."""
    if status in (401, 403):
        return f"does not take the key ({status}); --engine-key must be the same on both sides"
    if status == 404:
        return "has no engine (404)"
    return f"answers with the status {status}"
