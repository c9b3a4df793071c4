"""Self-hosted text-to-speech over WebSocket: the server, and clients for it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tts_provider.client import (
        AsyncTTSClient,
        ConnectionFailed,
        ConnectionLoss,
        Interruption,
        PlaybackBuffer,
        PlaybackFailed,
        Player,
        RequestFailed,
        ServerBusy,
        SpeechSession,
        TTSClient,
        TTSClientError,
    )

__version__ = version("tts-provider")

__all__ = [
    "AsyncTTSClient",
    "ConnectionFailed",
    "ConnectionLoss",
    "Interruption",
    "PlaybackBuffer",
    "PlaybackFailed",
    "Player",
    "RequestFailed",
    "ServerBusy",
    "SpeechSession",
    "TTSClient",
    "TTSClientError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # The client is imported when it is used, so that the command line answers at once.
    if name in __all__:
        from tts_provider import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
