"""The ways to be spoken to: `APIS` has a record of each, and all tables derive from it.

Those over a WebSocket are `dialect.py`'s translators. The basic endpoint at `/` and Wyoming, which
has a port of its own, are served by `connections/`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence

from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.cartesia.api import CARTESIA
from tts_provider.server.dialects.deepgram.api import DEEPGRAM
from tts_provider.server.dialects.dialect import Dialect
from tts_provider.server.dialects.elevenlabs.api import ELEVENLABS
from tts_provider.server.dialects.native import NativeDialect
from tts_provider.server.dialects.openai.api import OPENAI
from tts_provider.server.transport.auth import EVERYWHERE, KeyPlaces

SESSIONS = Api(NativeDialect.name, sockets={"/v1/stream": NativeDialect})

APIS: Sequence[Api] = (ELEVENLABS, OPENAI, CARTESIA, DEEPGRAM, SESSIONS)
"""Where two have an address in common, the first that a request is for answers."""

SOCKETS: Mapping[str, type[Dialect]] = {
    route: dialect for api in APIS for route, dialect in api.sockets.items()
}
"""Route → dialect."""

VOICES: Mapping[str, int] = {
    name.lower(): speaker for api in APIS for name, speaker in api.voices.items()
}
"""What services call their voices, in lower case → this server's speaker."""

KEYS: KeyPlaces = functools.reduce(operator.or_, (api.keys for api in APIS), EVERYWHERE)
"""Wherever any client puts its key, all may."""
