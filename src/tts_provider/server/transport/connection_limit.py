"""The connection limit, which applies before a client has sent anything."""

from __future__ import annotations

import logging
import sys
import time
from typing import Protocol

from tts_provider.errors import OverCapacity

log = logging.getLogger(__name__)

ACCEPTED_A_TURN = 32
# Turns of the event loop from a connection's acceptance until the one that makes room is closed.
_TURNS = 8
# Besides connections: listeners, the log, the model's files, decoders' pipes.
_OTHER_FILES = 128
_RESERVED = _TURNS * ACCEPTED_A_TURN + _OTHER_FILES
_TOLD_EVERY_S = 1.0


class LimitedConnection(Protocol):
    """A connection that still is HTTP."""

    @property
    def is_waiting(self) -> bool:
        """Whether its client still has to send a request, or the rest of one."""

    def refuse(self, problem: OverCapacity) -> None: ...
    def reset(self) -> None: ...


class ConnectionLimit:
    """When the limit is reached, the newest connection is admitted, and the one whose client has
    been silent longest is closed. A client that only holds connections open therefore keeps nobody
    out. If all connections are busy, the newest is refused.
    """

    def __init__(self, max_sockets: int) -> None:
        self._max_sockets = max_sockets
        self._waiting: dict[LimitedConnection, None] = {}  # the longest first
        self._turned_away = 0
        self._told_s = -_TOLD_EVERY_S

    def enter(self, connection: LimitedConnection, open_sockets: int) -> None:
        """Admit a connection, which `open_sockets` counts already."""
        self.wait(connection)
        if open_sockets <= self._max_sockets:
            return
        self._tell()
        while (oldest := next(iter(self._waiting))) is not connection:
            del self._waiting[oldest]
            if oldest.is_waiting:
                oldest.reset()
                return
        problem = OverCapacity(
            f"{self._max_sockets} connections are open, the limit; try again later",
            retry_after_ms=1000,
        )
        connection.refuse(problem)

    def wait(self, connection: LimitedConnection) -> None:
        """From now on the connection waits for its client."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def leave(self, connection: LimitedConnection) -> None:
        self._waiting.pop(connection, None)

    def _tell(self) -> None:
        self._turned_away += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= _TOLD_EVERY_S:
            log.warning(
                "%d connections are open, the limit; %d were ended or refused for new ones",
                self._max_sockets,
                self._turned_away,
            )
            self._told_s, self._turned_away = now_s, 0


def sockets_allowed(wanted: int) -> int:
    """How many connections the operating system allows, at most `wanted`; raises the soft limit."""
    if sys.platform == "win32":
        return wanted
    import resource

    needed = wanted + _RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    allowed = max(1, needed - _RESERVED)
    if allowed < wanted:
        log.warning(
            "the system allows %d open files, so %d connections are the limit, not %d; "
            "raise it with ulimit -n or LimitNOFILE",
            needed,
            allowed,
            wanted,
        )
    return min(allowed, wanted)
