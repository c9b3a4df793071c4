"""An API that clients speak to this server with: one record of all that the server's tables know of
it. Its folder or module has the record; `dialects/__init__.py` has them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter

from tts_provider.server.dialects.dialect import Dialect
from tts_provider.server.service.service import SpeechService
from tts_provider.server.transport.address import ErrorShape
from tts_provider.server.transport.auth import KeyPlaces


@dataclass(frozen=True)
class Api:
    """What is not given it does not have, or is as in this server's own HTTP."""

    name: str
    """In metrics, in the log and in the tests."""
    sockets: Mapping[str, type[Dialect]] = field(default_factory=dict)
    """Route → dialect."""
    create_router: Callable[[SpeechService], APIRouter] | None = None
    """Its HTTP."""
    errors: ErrorShape | None = None
    keys: KeyPlaces = field(default_factory=KeyPlaces)
    """Where its clients put their key, beside the places that every client has."""
    voices: Mapping[str, int] = field(default_factory=dict)
    """The service's own voices, and which of this server's speakers answers to each."""
