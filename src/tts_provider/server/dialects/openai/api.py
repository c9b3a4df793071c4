"""OpenAI's API, as a record."""

from __future__ import annotations

from collections.abc import Mapping

from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.openai.http import ENDPOINT, create_router
from tts_provider.voices.aliases import MAN, WOMAN

# Chosen by how OpenAI's voices sound; alloy and fable could be either.
VOICES: Mapping[str, int] = {
    "alloy": WOMAN,
    "ash": MAN,
    "ballad": MAN,
    "cedar": MAN,
    "coral": WOMAN,
    "echo": MAN,
    "fable": MAN,
    "marin": WOMAN,
    "nova": WOMAN,
    "onyx": MAN,
    "sage": WOMAN,
    "shimmer": WOMAN,
    "verse": MAN,
}


OPENAI = Api(ENDPOINT, create_router=create_router, voices=VOICES)
