"""The APIs of this server: `APIS` has a record of each, and all other tables are derived from it.

APIs over a WebSocket implement the contract of `dialect.py`. `connections/` serves the basic
endpoint at `/`, and Wyoming, which has a port of its own.
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
"""If two APIs share an address, the first that matches the request answers."""

SOCKETS: Mapping[str, type[Dialect]] = {
    route: dialect for api in APIS for route, dialect in api.sockets.items()
}
"""Route → dialect."""

VOICES: Mapping[str, int] = {
    name.lower(): speaker for api in APIS for name, speaker in api.voices.items()
}
"""Other services' names of voices, in lower case → this server's speaker."""

KEYS: KeyPlaces = functools.reduce(operator.or_, (api.keys for api in APIS), EVERYWHERE)
"""Every client may use every place in which any client puts its key."""
