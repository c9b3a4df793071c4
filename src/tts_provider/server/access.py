"""Which scope of an API key each route needs. `tests/server/test_access.py` finds those that are
not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Scope

Scopes = tuple[str, ...]
"""One of them is enough; where there is none, any key is, and of open paths no key."""

_ANY: Scopes = ()
_SPEAK: Scopes = ("speak",)
_VOICES: Scopes = ("voices",)
_JOBS: Scopes = ("jobs",)
_LOOK: Scopes = ("speak", "voices", "jobs")
"""What there is to speak with concerns whoever may speak, now or in a job, or bring voices."""

ROUTES: Mapping[str, Scopes] = {
    "GET /": _ANY,
    "OPTIONS /": _ANY,
    "GET /web/{name}": _ANY,
    "GET /health": _ANY,
    "GET /ready": _ANY,
    "GET /openapi.json": _ANY,
    "GET /metrics": ("metrics",),
    # Speech, and all messages of its sockets
    "SOCKET /": _SPEAK,
    "SOCKET /v1/stream": _SPEAK,
    "POST /v1/audio/speech": _SPEAK,
    "POST /v1/audio/dialogue": _SPEAK,
    "POST /v1/audio/words": _SPEAK,
    "POST /v1/audio/detect": _SPEAK,
    "SOCKET /v1/text-to-speech/{voice}/stream-input": _SPEAK,
    "SOCKET /v1/text-to-speech/{voice}/multi-stream-input": _SPEAK,
    "SOCKET /v1/text-to-dialogue/stream-input": _SPEAK,
    "SOCKET /v1/text-to-dialogue/multi-stream-input": _SPEAK,
    "POST /v1/text-to-speech/{voice_id}": _SPEAK,
    "POST /v1/text-to-speech/{voice_id}/stream": _SPEAK,
    "POST /v1/text-to-speech/{voice_id}/with-timestamps": _SPEAK,
    "POST /v1/text-to-speech/{voice_id}/stream/with-timestamps": _SPEAK,
    "POST /v1/text-to-dialogue": _SPEAK,
    "POST /v1/text-to-dialogue/stream": _SPEAK,
    "POST /v1/text-to-dialogue/with-timestamps": _SPEAK,
    "POST /v1/text-to-dialogue/stream/with-timestamps": _SPEAK,
    "SOCKET /tts/websocket": _SPEAK,
    "POST /tts/bytes": _SPEAK,
    "POST /tts/sse": _SPEAK,
    "SOCKET /v1/speak": _SPEAK,
    "POST /v1/speak": _SPEAK,
    # What there is to speak with
    "GET /v1/models": _LOOK,
    "GET /v1/models/{model:path}": _LOOK,
    "GET /v1/audio/models": _LOOK,
    "GET /v1/audio/voices": _LOOK,
    "GET /v1/voices": _LOOK,
    "GET /v2/voices": _LOOK,
    "GET /v1/voices/{voice_id}": _LOOK,
    "GET /voices": _LOOK,
    "GET /voices/{voice_id}": _LOOK,
    "POST /v1/audio/voices": _VOICES,
    "PATCH /v1/audio/voices/{voice_id}": _VOICES,
    "DELETE /v1/audio/voices/{voice_id}": _VOICES,
    "POST /v1/audio/jobs": _JOBS,
    "GET /v1/audio/jobs": _JOBS,
    "GET /v1/audio/jobs/{job_id}": _JOBS,
    "GET /v1/audio/jobs/{job_id}/events": _JOBS,
    "GET /v1/audio/jobs/{job_id}/audio": _JOBS,
    "GET /v1/audio/jobs/{job_id}/chapters/{number}/audio": _JOBS,
    "DELETE /v1/audio/jobs/{job_id}": _JOBS,
    # Who asks
    "GET /v1/key": _ANY,
    "GET /v1/usage": _ANY,
    "GET /v1/user": _ANY,
    "GET /v1/user/subscription": _ANY,
    # What is nowhere
    "SOCKET /{path:path}": _ANY,
}
"""Method and path → scopes. Of two that fit, the first counts."""

NOT_LISTED: Scopes = ("admin",)
"""A route that somebody forgot to list here."""

_PATTERNS = [
    (method, compile_path(path)[0], scopes)
    for method, _, path, scopes in ((*row.partition(" "), scopes) for row, scopes in ROUTES.items())
    if "{" in path
]


def scopes_needed(routes: Sequence[BaseRoute], scope: Scope) -> Scopes:
    """Of this request, where these are the application's routes."""
    method = "SOCKET" if scope["type"] == "websocket" else scope["method"]
    scopes = _listed(method, scope["path"])
    if scopes is not None:
        return scopes
    is_there = any(route.matches(scope)[0] == Match.FULL for route in routes)
    return NOT_LISTED if is_there else _ANY  # what is not there is told to everybody


def _listed(method: str, path: str) -> Scopes | None:
    if (scopes := ROUTES.get(f"{method} {path}")) is not None:
        return scopes
    for of_method, pattern, found in _PATTERNS:
        if of_method == method and pattern.match(path):
            return found
    return None
