"""The replicas behind some addresses, asked over HTTP: one after the other, and what comes back.

An address that does not answer is set aside, and asked how it is each second until it does. A
replica that falls silent or breaks off is lost: before its first audio the request is asked again
once, elsewhere where there is an elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import httpx2

from tts_provider.engines.remote.addresses import Address, Addresses
from tts_provider.engines.remote.counts import Counts
from tts_provider.engines.remote.frames import Alive, Decoder, End, Frame, NotOurs, read_error
from tts_provider.engines.remote.messages import REPLICA_HEADER, Description, read_message
from tts_provider.errors import EngineLost, InvalidRequest, OverCapacity, WireError

log = logging.getLogger(__name__)

SILENCE_S = 10.0
"""A stream that brings no frame for so long is lost; a replica at work sends one every 2 s."""
_CONNECT_S = 2.0
_PROBE_S = 1.0
"""Between two questions to an address that is set aside; the others are asked less often."""
_HEALTHY_PROBE_S = 5.0
_PROBE_TIMEOUT_S = 3.0
# uvicorn, and so Ray's proxy, closes what is silent for 5 s: never ask into a closing connection.
_KEEP_ALIVE_S = 4.0
_PATIENCE_S = 20.0
"""How long what was begun waits for a place."""
_ASK_AGAIN_S = (0.05, 2.0)
_RETRY_AFTER_MS = 1000
# What a replica says that is there and takes nothing new.
_AWAY_CODES = ("loading", "draining")
_NOT_ASKED = "none"


class _Lost(Exception):
    """A request that a replica began is not finished by it."""

    def __init__(self, address: Address, what: str, *, in_line: bool = False) -> None:
        """`in_line`: others were heard from there meanwhile, so that this one only waited."""
        super().__init__(f"{address.url} {what}")
        self.address, self.in_line = address, in_line


class Replicas:
    def __init__(
        self,
        urls: Sequence[str],
        key: str | None,
        on_described: Callable[[Description], None],
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.addresses = Addresses(urls)
        self.counts = Counts()
        for address in self.addresses:
            self.counts.is_up(address.url, False)
        self._on_described = on_described
        self._silence_s = silence_s
        self._client = httpx2.AsyncClient(
            headers=authorization(key),
            limits=httpx2.Limits(keepalive_expiry=_KEEP_ALIVE_S),
            timeout=httpx2.Timeout(silence_s, connect=_CONNECT_S, pool=None),
            # Engines are machines of the operator's own, in no proxy's reach.
            trust_env=False,
        )
        self._probes: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    async def probe(self) -> None:
        """Ask all addresses how they are."""
        await asyncio.gather(*map(self._probe, self.addresses))

    def watch(self) -> None:
        """From now on keep asking."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        tasks = [*self._probes, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def nobody(self) -> EngineLost:
        """What is said where no address is up."""
        return EngineLost(f"no engine can be reached: {self.addresses.problems()}")

    async def ask(
        self, path: str, body: bytes, headers: Mapping[str, str], *, waits: bool
    ) -> AsyncGenerator[Frame, None]:
        """What a replica answers to this, its last frame left out. With `waits` it is asked again
        for a while where all are busy.

        Raises `EngineLost`, `OverCapacity`, and what the engine raises there.
        """
        lost: _Lost | None = None
        heard = False
        while True:
            avoid = None if lost is None else lost.address
            try:
                address, response = await self._open(path, body, headers, waits, avoid)
                async with aclosing(self._read(address, response)) as frames:
                    async for frame in frames:
                        heard = heard or not isinstance(frame, Alive)
                        yield frame
                return
            except _Lost as again:
                self._suspect(again.address)
                if again.in_line and lost is not None:
                    raise OverCapacity(
                        f"all engines are busy: {again}, twice", retry_after_ms=_RETRY_AFTER_MS
                    ) from None
                if heard or lost is not None:
                    raise EngineLost(f"the engine was lost: {again}; ask again") from None
                log.warning("a request is asked again elsewhere: %s", again)
                lost = again

    async def _open(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        waits: bool,
        avoid: Address | None,
    ) -> tuple[Address, httpx2.Response]:
        """A response of status 200. Raises `_Lost`, and `WireError` as `ask`."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + (_PATIENCE_S if waits else 0.0)
        while True:
            busy: OverCapacity | None = None
            for address in self.addresses.in_turn(avoid):
                address.active += 1
                try:
                    response = await self._send(address, path, body, headers)
                    if response is not None and response.status_code == 200:
                        address.active += 1  # until `_read` is done
                        return address, response
                finally:
                    address.active -= 1
                if response is None:
                    continue
                problem = await self._read_refusal(address, response)
                if isinstance(problem, OverCapacity):
                    busy = problem
                elif problem is not None:
                    self.counts.ended(_name_of(address, response), problem.code)
                    raise problem
            if busy is None:
                raise self.nobody()
            low, high = _ASK_AGAIN_S
            wait_s = min(max(busy.retry_after_ms / 1000, low), high)
            if loop.time() + wait_s > give_up_s:
                self.counts.ended(_NOT_ASKED, busy.code)
                raise busy
            await asyncio.sleep(wait_s)

    async def _send(
        self, address: Address, path: str, body: bytes, headers: Mapping[str, str]
    ) -> httpx2.Response | None:
        """The response's head; None where the address is set aside. Raises `_Lost`."""
        url = address.url + path
        request = self._client.build_request("POST", url, content=body, headers=headers)
        asked_s = asyncio.get_running_loop().time()
        try:
            return await self._client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._set_aside(address, f"cannot be reached ({_sentence(error)})")
        except httpx2.TransportError as error:
            self.counts.ended(address.url, "lost")
            silent = isinstance(error, httpx2.ReadTimeout)
            in_line = silent and address.heard_s > asked_s
            raise _Lost(address, self._how(error), in_line=in_line) from error
        return None

    async def _read(
        self, address: Address, response: httpx2.Response
    ) -> AsyncGenerator[Frame, None]:
        """Frames until the last one. Raises `_Lost`, and the error that a replica tells."""
        loop, decoder = asyncio.get_running_loop(), Decoder()
        outcome, is_over = "cancelled", False
        try:
            async for data in response.aiter_raw():
                address.heard_s = loop.time()
                for frame in decoder.push(data):
                    if isinstance(frame, WireError):
                        raise frame
                    # What follows is the end of the body: the connection is used again.
                    is_over = is_over or isinstance(frame, End)
                    if not is_over:
                        yield frame
        except httpx2.TransportError as error:
            if not is_over:
                outcome = "lost"
                raise _Lost(address, self._how(error)) from error
        except NotOurs as error:
            outcome = "lost"
            raise _Lost(address, f"sent {error}") from error
        except WireError as problem:
            outcome = problem.code
            raise
        else:
            if not is_over:
                outcome = "lost"
                raise _Lost(address, "ended before it had said everything")
        finally:
            address.active -= 1
            self.counts.ended(_name_of(address, response), "spoken" if is_over else outcome)
            await response.aclose()

    async def _read_refusal(self, address: Address, response: httpx2.Response) -> WireError | None:
        """Why a request was not taken; None where the address is set aside. Raises `_Lost`."""
        try:
            body = await response.aread()
        except httpx2.TransportError as error:
            raise _Lost(address, self._how(error)) from error
        finally:
            await response.aclose()
        status, problem = response.status_code, error_in(body)
        if problem is not None and problem.code in _AWAY_CODES:
            self._set_aside(address, f"says: {problem.message}")
            return None
        if problem is not None and status not in (401, 403):
            return problem
        if status == 503:  # of Ray, or a balancer
            after = response.headers.get("retry-after", "")
            after_ms = 1000 * int(after) if after.isdecimal() else _RETRY_AFTER_MS
            return OverCapacity("all engines are busy; try again later", retry_after_ms=after_ms)
        if status in (401, 403, 404):
            self._set_aside(address, refusal(status), is_refused=status != 404)
            return None
        self.counts.ended(_name_of(address, response), "lost")
        raise _Lost(address, f"answered with the status {status}")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PROBE_S)
            for address in self.addresses:
                if not address.is_up or loop.time() - address.asked_s > _HEALTHY_PROBE_S:
                    self._suspect(address)

    def _suspect(self, address: Address) -> None:
        """Ask it how it is, now."""
        if not address.is_asked:
            probe = asyncio.create_task(self._probe(address))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, address: Address) -> None:
        loop = asyncio.get_running_loop()
        address.asked_s, address.is_asked = loop.time(), True
        try:
            url = f"{address.url}/describe"
            response = await self._client.get(url, timeout=_PROBE_TIMEOUT_S)
        except httpx2.ReadTimeout:
            # A queue before busy replicas keeps the question waiting, and lets their audio pass.
            if address.heard_s < address.asked_s:
                self._set_aside(address, f"did not answer in {_PROBE_TIMEOUT_S:g} s")
        except httpx2.TransportError as error:
            self._set_aside(address, f"cannot be reached ({_sentence(error)})")
        else:
            self._take(address, response)
        finally:
            address.is_asked = False

    def _take(self, address: Address, response: httpx2.Response) -> None:
        """What an address answered to the question how it is."""
        status = response.status_code
        if status == 503 and address.is_up:
            problem = error_in(response.content)
            if problem is not None and problem.code in _AWAY_CODES:
                self._set_aside(address, f"says: {problem.message}")
            return
        if status != 200:
            problem = error_in(response.content)
            reason = refusal(status) if problem is None else f"says: {problem.message}"
            self._set_aside(address, reason, is_refused=status in (401, 403))
            return
        try:
            described = read_message(Description, response.content)
        except InvalidRequest as error:
            self._set_aside(address, f"is no engine of this release: {error}", is_refused=True)
            return
        if not address.is_up:
            address.is_up, address.is_refused = True, False
            self.counts.is_up(address.url, True)
            log.info("%s speaks with %s on %s", address.url, described.engine, described.device)
        self._on_described(described)

    def _set_aside(self, address: Address, problem: str, *, is_refused: bool = False) -> None:
        if address.is_up:
            log.warning("%s is set aside: it %s", address.url, problem)
            self.counts.is_up(address.url, False)
        address.is_up, address.problem, address.is_refused = False, problem, is_refused

    def _how(self, error: httpx2.TransportError) -> str:
        if isinstance(error, httpx2.TimeoutException):
            return f"sent nothing for {self._silence_s:g} s"
        return f"broke off ({_sentence(error)})"


def authorization(key: str | None) -> dict[str, str]:
    """The headers that show a key."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def error_in(body: bytes) -> WireError | None:
    """The error that a replica's body tells; None where it is somebody else's."""
    with suppress(ValueError, TypeError, KeyError):
        facts: dict[str, Any] = json.loads(body)["error"]
        return read_error(facts)
    return None


def refusal(status: int) -> str:
    """What a status means that is not a replica's own refusal, in words."""
    if status in (401, 403):
        return f"does not take the key ({status}); --engine-key must be the same on both sides"
    if status == 404:
        return "has no engine (404)"
    return f"answers with the status {status}"


def _name_of(address: Address, response: httpx2.Response) -> str:
    name: str = response.headers.get(REPLICA_HEADER, address.url)
    return name


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
