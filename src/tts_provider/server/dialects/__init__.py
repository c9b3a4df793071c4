"""The ways to be spoken to: one file each.

Those over a WebSocket are `dialect.py`'s translators, and `SOCKETS` says where each is served. The
seed's endpoint, and what is HTTP alone, have routes of their own in `server/app.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tts_provider.server.dialects.dialect import Dialect
from tts_provider.server.dialects.native import NativeDialect

SOCKETS: Mapping[str, type[Dialect]] = {
    "/v1/stream": NativeDialect,
}
"""Route → dialect."""
