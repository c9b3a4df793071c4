"""An API of this server: one record of everything that the server's tables know about it. The API's
folder or module has the record; `dialects/__init__.py` lists all of them."""

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
    """Describes one API. It lacks a part that is left out, or has that of this server's own
    HTTP."""

    name: str
    """The API's name in metrics, in the log and in the tests."""
    sockets: Mapping[str, type[Dialect]] = field(default_factory=dict)
    """Route → dialect."""
    create_router: Callable[[SpeechService], APIRouter] | None = None
    """Its HTTP."""
    errors: ErrorShape | None = None
    keys: KeyPlaces = field(default_factory=KeyPlaces)
    """Where its clients put their key, besides the places that every client has."""
    voices: Mapping[str, int] = field(default_factory=dict)
    """The service's own voices, and which of this server's speakers answers to each."""
