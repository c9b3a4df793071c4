"""Clients of a tts-provider server, for plain programs and for asyncio."""

from tts_provider.client.address import DEFAULT_URL
from tts_provider.client.errors import (
    ConnectionFailed,
    RequestFailed,
    ServerBusy,
    TTSClientError,
)
from tts_provider.client.playback import PlaybackBuffer
from tts_provider.client.session import Interruption, SpeechSession, SpokenText
from tts_provider.client.speech import AsyncTTSClient, TTSClient
from tts_provider.client.words import SpokenWord

__all__ = [
    "DEFAULT_URL",
    "AsyncTTSClient",
    "ConnectionFailed",
    "Interruption",
    "PlaybackBuffer",
    "RequestFailed",
    "ServerBusy",
    "SpeechSession",
    "SpokenText",
    "SpokenWord",
    "TTSClient",
    "TTSClientError",
]
