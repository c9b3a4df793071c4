"""What can go wrong, as one tree.

Every error a client can cause or meet carries its wire code, its HTTP status and, where the
connection cannot go on, its WebSocket close code. Messages are one sentence: what was wrong, what
was expected, what arrived.

    TTSError
    ├── StartupError            the process cannot start; exit code 2
    └── WireError               told to a client
        ├── InvalidRequest      the client can mend it
        ├── Unauthorized        401 before the upgrade
        │   └── UnknownKey      a key that nobody has
        ├── ForbiddenOrigin     403 before the upgrade
        ├── ForbiddenHost       403 before the upgrade
        ├── ScopeTooSmall       403: the key may do other things
        ├── OverCapacity        try again later (1013)
        │   └── LimitReached    429: the key has used what it may, the server goes on
        ├── Loading             the model is not there yet, for who cannot be told to wait (1013)
        ├── Draining            connect again (1012)
        ├── UnsentAudio         the listener does not take its audio (1008)
        ├── NoSpeech            nothing in the text can be spoken
        ├── EngineLost          the engine on another machine is gone; ask again (1013)
        └── EngineFailed        the engine broke; the request is lost (1011 when it cannot load)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_MISSPELT = 0.82  # so alike are a name and a misspelling of it; `PORT` and `HOST` are 0.5


class TTSError(Exception):
    """Base of everything this package raises on purpose."""


class StartupError(TTSError):
    """A setting, a file or the machine does not allow the server to start."""


class UnreadableFile(StartupError):
    """The system did not let a file be read, which may pass."""


class WireError(TTSError):
    """An error with a place on the wire."""

    code = "internal_error"
    http_status = 500
    close_code = 1011
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        if http_status is not None:
            self.http_status = http_status

    def about(self, param: str) -> WireError:
        """The same error, of a field that has another name where it is told."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__, param=param)
        return other

    def within(self, name: str) -> WireError:
        """The same error, of a part of the request, `name`."""
        message = f"{name}: {self.message}"
        other = type(self).__new__(type(self), message)
        param = name if self.param is None else f"{name}.{self.param}"
        other.__dict__.update(self.__dict__, message=message, param=param)
        return other


class InvalidRequest(WireError):
    code = "invalid_value"
    http_status = 400
    close_code = 1008


class Unauthorized(WireError):
    code = "unauthorized"
    http_status = 401
    close_code = 1008


class UnknownKey(Unauthorized):
    pass


class ForbiddenOrigin(WireError):
    code = "forbidden_origin"
    http_status = 403
    close_code = 1008


class ForbiddenHost(WireError):
    code = "forbidden_host"
    http_status = 403
    close_code = 1008


class ScopeTooSmall(WireError):
    code = "scope_too_small"
    http_status = 403
    close_code = 1008


class OverCapacity(WireError):
    code = "over_capacity"
    http_status = 503
    close_code = 1013
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.retry_after_ms = retry_after_ms


class LimitReached(OverCapacity):
    """A key's limit, which a connection survives."""

    code = "rate_limit_exceeded"
    http_status = 429


class Loading(WireError):
    code = "loading"
    http_status = 503
    close_code = 1013
    retryable = True


class Draining(WireError):
    code = "draining"
    http_status = 503
    close_code = 1012
    retryable = True


class UnsentAudio(WireError):
    code = "unsent_audio"
    http_status = 408
    close_code = 1008


class NoSpeech(WireError):
    code = "no_speech"
    http_status = 422
    close_code = 1008


class EngineFailed(WireError):
    code = "engine_failed"
    http_status = 500
    close_code = 1011


class EngineLost(WireError):
    code = "engine_lost"
    http_status = 503
    close_code = 1013
    retryable = True


def meant_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that an unknown one misspells, for an error to suggest: a few letters differ,
    or its words (parted by `_` or `-`) are cut short. None where it merely looks like others."""
    likeness, meant = max(((_likeness(name, other), other) for other in known), default=(0.0, ""))
    return meant if likeness >= _MISSPELT else None


def _likeness(name: str, other: str) -> float:
    """From 0 to 1, which is the same but for case."""
    name, other = (each.lower().strip("-").replace("-", "_") for each in (name, other))
    if sorted(name) == sorted(other):  # two letters changed places
        return 1.0
    whole = difflib.SequenceMatcher(None, name, other).ratio()
    words, others = name.split("_"), other.split("_")
    if len(words) != len(others):
        return whole
    pairs = zip(words, others, strict=True)
    is_cut = all((len(one) > 2 and two.startswith(one)) or one == two for one, two in pairs)
    return max(whole, _MISSPELT) if is_cut else whole


@contextmanager
def text_named(name: str, own_name: str = "text") -> Iterator[None]:
    """Errors of the text within, or of what has another name there, are of the field `name`, which
    it came in."""
    try:
        yield
    except WireError as problem:
        if problem.param != own_name:
            raise
        raise problem.about(name) from None


@contextmanager
def part_named(name: str | None) -> Iterator[None]:
    """Errors within are of this part of the request; None is the whole of it."""
    try:
        yield
    except WireError as problem:
        if name is None:
            raise
        raise problem.within(name) from None
