"""Who is calling, and what they may do. The key check knows; routes ask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tts_provider.errors import ScopeTooSmall

SCOPES: Mapping[str, str] = {
    "speak": "speak, and read what this server can speak",
    "voices": "enrol, share and remove voices",
    "jobs": "submit jobs and fetch what they made",
    "metrics": "read /metrics",
    "admin": "do all of this with everybody's voices and jobs, and read everybody's usage",
}
"""What a key may be allowed → what it may do then."""

DEFAULT_SCOPES = frozenset({"speak", "voices", "jobs"})
"""Of a key that was made without any."""

_CALLER = "tts_provider.caller"


@dataclass(frozen=True)
class Caller:
    """Who is behind a request or a connection."""

    name: str | None
    """The key's; None where there are no keys, and for an `--api-key`."""
    scopes: frozenset[str] = DEFAULT_SCOPES
    voices: tuple[str, ...] | None = None
    """Ids of those that it may speak with, the default first; None is every voice it can see."""
    is_administrator: bool = False

    @property
    def scopes_text(self) -> str:
        """Its scopes, as people read them."""
        return ", ".join(scope for scope in SCOPES if scope in self.scopes) or "none"

    def may(self, *scopes: str) -> bool:
        """Whether one of these scopes is this caller's; an administrator has them all."""
        return self.is_administrator or not self.scopes.isdisjoint(scopes)

    def require(self, *scopes: str) -> None:
        """Raises `ScopeTooSmall` where none of these is this caller's."""
        if not self.may(*scopes):
            raise ScopeTooSmall(
                f"the API key {self.name!r} lacks the scope {' or '.join(scopes)}; it has "
                f"{self.scopes_text}. Ask the operator of this server for a key with that scope"
            )

    def owns(self, owner: str | None) -> bool:
        """Whether what `owner` made is this caller's to change and remove. What nobody owns is an
        administrator's."""
        return self.is_administrator or (owner is not None and owner == self.name)

    def may_see(self, owner: str | None, *, is_shared: bool = False) -> bool:
        """Whether what `owner` made is there for this caller."""
        return is_shared or self.owns(owner)


ANONYMOUS = Caller(None, frozenset(SCOPES), is_administrator=True)
"""Everybody, where there are no keys; who shows an `--api-key`; and the server itself."""

GUEST = Caller(None, frozenset({"speak"}))
"""Who comes where no key can be shown, to a server that has keys."""

STRANGER = Caller(None, frozenset())
"""Who asks for what needs no key, or has still to show one."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who sent the request, or opened the connection, of this ASGI scope.

    A connection that may still bring its key in a message is a stranger's.
    """
    caller: Caller = scope[_CALLER]
    return caller


def with_caller(scope: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """The same ASGI scope, of this caller."""
    return {**scope, _CALLER: caller}


def require(scope: Mapping[str, Any], *scopes: str) -> Caller:
    """Who sent the request, where one of `scopes` is theirs. Raises `ScopeTooSmall`."""
    caller = caller_of(scope)
    caller.require(*scopes)
    return caller


def current_caller() -> Caller:
    """Whose request the running task is for; threads that a task starts do not know."""
    return _current.get()


@contextlib.contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """What is done within, and by tasks that start within, is done for this caller."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def become(caller: Caller) -> None:
    """The running task, and those that it starts from now on, are for this caller."""
    _current.set(caller)
