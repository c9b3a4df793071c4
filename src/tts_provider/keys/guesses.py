"""Who tries keys that are none: counted by address, and answered late.

Only wrong tries wait. Whoever shares an address with a guesser and has a right key notices nothing,
so a guesser that tries many at once is slowed no further than its connections: what makes guessing
hopeless is the length of keys, 256 random bits. Late answers are few, so that nobody can hold
connections by asking for them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

FREE_TRIES = 3
"""Answered at once: people mistype."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
FORGOTTEN_AFTER_S = 60.0
MOST_ADDRESSES = 4096
MOST_HELD, MOST_HELD_OF_ONE = 64, 8
_IPV6_NETWORK = 64  # what one customer has


@dataclass
class _Burst:
    last_s: float
    tries: int = 0
    told: int = 0
    told_s: float = 0.0


class Guesses:
    """Used on one thread, the event loop's."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._bursts: OrderedDict[str, _Burst] = OrderedDict()
        self._held: Counter[str] = Counter()

    async def answer_late(self, client: str) -> bool:
        """Count a wrong key from this address, and wait before it is told so: whether it is one of
        a burst, which is in the log."""
        address = network_of(client)
        wait_s = self._count(address)
        if wait_s == 0:
            return False
        if self._held.total() >= MOST_HELD or self._held[address] >= MOST_HELD_OF_ONE:
            return True
        self._held[address] += 1
        try:
            await self._sleep(wait_s)
            return True
        finally:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]

    def _count(self, address: str) -> float:
        """How long this try waits, in seconds. A burst is in the log when it begins, and once a
        minute then."""
        now_s = self._clock()
        burst = self._bursts.pop(address, None)
        if burst is None or now_s - burst.last_s > FORGOTTEN_AFTER_S:
            burst = _Burst(now_s)
        self._bursts[address] = burst
        if len(self._bursts) > MOST_ADDRESSES:
            self._bursts.popitem(last=False)
        burst.tries, burst.last_s = burst.tries + 1, now_s
        late = burst.tries - FREE_TRIES
        if late <= 0:
            return 0.0
        if late == 1 or now_s - burst.told_s >= FORGOTTEN_AFTER_S:
            count = burst.tries - burst.told
            log.warning("%d wrong API keys from %s; more are answered late", count, address)
            burst.told, burst.told_s = burst.tries, now_s
        return min(FIRST_WAIT_S * 2.0 ** min(late - 1, 30), LONGEST_WAIT_S)


def network_of(client: str) -> str:
    """The address, or of IPv6 the network that one customer has."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), _IPV6_NETWORK), strict=False))
    return str(address)
