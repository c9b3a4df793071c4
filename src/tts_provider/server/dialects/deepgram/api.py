"""Deepgram's API, as a record."""

from __future__ import annotations

from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.deepgram.http import create_router
from tts_provider.server.dialects.deepgram.voices import VOICES
from tts_provider.server.dialects.deepgram.websocket import (
    DeepgramDialect,
    error_body,
    error_headers,
)
from tts_provider.server.transport.address import ErrorShape
from tts_provider.server.transport.auth import KeyPlaces

_ADDRESS = "/v1/speak"

DEEPGRAM = Api(
    DeepgramDialect.name,
    sockets={_ADDRESS: DeepgramDialect},
    create_router=create_router,
    errors=ErrorShape(lambda path, headers: path == _ADDRESS, error_body, error_headers),
    # Clients in browsers offer the same word as a subprotocol.
    keys=KeyPlaces(schemes=("token",)),
    voices=VOICES,
)
