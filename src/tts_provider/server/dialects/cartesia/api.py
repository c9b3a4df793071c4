"""Cartesia's API, as a record."""

from __future__ import annotations

from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.cartesia.http import create_router
from tts_provider.server.dialects.cartesia.voices import VOICES
from tts_provider.server.dialects.cartesia.websocket import CartesiaDialect, error_body
from tts_provider.server.transport.address import ErrorShape
from tts_provider.server.transport.auth import KeyPlaces

_SOCKET = "/tts/websocket"

CARTESIA = Api(
    CartesiaDialect.name,
    sockets={_SOCKET: CartesiaDialect},
    create_router=create_router,
    errors=ErrorShape(lambda path, headers: path.startswith(("/tts/", "/voices")), error_body),
    keys=KeyPlaces(in_address={_SOCKET: ("api_key", "access_token")}),
    voices=VOICES,
)
