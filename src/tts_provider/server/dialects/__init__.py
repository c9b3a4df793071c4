"""The ways to be spoken to: one file each.

Those over a WebSocket are `dialect.py`'s translators, and `SOCKETS` says where each is served. The
seed's endpoint, and what is HTTP alone, have routes of their own in `server/app.py`; `ERROR_SHAPES`
says how services word what goes wrong there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tts_provider.server.dialects.cartesia import websocket as cartesia
from tts_provider.server.dialects.deepgram import websocket as deepgram
from tts_provider.server.dialects.dialect import Dialect
from tts_provider.server.dialects.elevenlabs import websocket as elevenlabs
from tts_provider.server.dialects.native import NativeDialect
from tts_provider.server.transport.address import ErrorShape

SOCKETS: Mapping[str, type[Dialect]] = {
    "/v1/stream": NativeDialect,
    "/v1/text-to-speech/{voice}/stream-input": elevenlabs.StreamInput,
    "/v1/text-to-speech/{voice}/multi-stream-input": elevenlabs.MultiStreamInput,
    "/tts/websocket": cartesia.CartesiaDialect,
    "/v1/speak": deepgram.DeepgramDialect,
}
"""Route → dialect."""

ERROR_SHAPES: Sequence[ErrorShape] = (
    ErrorShape(
        lambda path, headers: path.startswith(("/tts/", "/voices")),
        cartesia.error_body,
    ),
    ErrorShape(
        lambda path, headers: path == "/v1/speak", deepgram.error_body, deepgram.error_headers
    ),
    ErrorShape(elevenlabs.is_for, elevenlabs.error_body),
)
"""The first that a request is for words its errors; OpenAI's shape where there is none."""
