"""ElevenLabs' API, as a record."""

from __future__ import annotations

from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.elevenlabs.dialogue_websocket import (
    DialogueMultiStreamInput,
    DialogueStreamInput,
)
from tts_provider.server.dialects.elevenlabs.http import create_router
from tts_provider.server.dialects.elevenlabs.voices import VOICES
from tts_provider.server.dialects.elevenlabs.websocket import (
    KEY_HEADER,
    MultiStreamInput,
    StreamInput,
    error_body,
    is_for,
)
from tts_provider.server.transport.address import ErrorShape
from tts_provider.server.transport.auth import KeyPlaces

ELEVENLABS = Api(
    StreamInput.name,
    sockets={
        "/v1/text-to-speech/{voice}/stream-input": StreamInput,
        "/v1/text-to-speech/{voice}/multi-stream-input": MultiStreamInput,
        "/v1/text-to-dialogue/stream-input": DialogueStreamInput,
        "/v1/text-to-dialogue/multi-stream-input": DialogueMultiStreamInput,
    },
    create_router=create_router,
    errors=ErrorShape(is_for, error_body),
    keys=KeyPlaces(headers=(KEY_HEADER,)),
    voices=VOICES,
)
