"""Clients of a tts-provider server, for plain programs and for asyncio."""

from tts_provider.client.address import DEFAULT_URL
from tts_provider.client.blocking import BlockingSpeechSession
from tts_provider.client.errors import (
    ConnectionFailed,
    PlaybackFailed,
    RequestFailed,
    ServerBusy,
    TTSClientError,
)
from tts_provider.client.playback import PlaybackBuffer
from tts_provider.client.player import Player
from tts_provider.client.session import SpeechSession
from tts_provider.client.speech import AsyncTTSClient, TTSClient
from tts_provider.client.turn import ConnectionLoss, Interruption, SpokenText
from tts_provider.client.words import SpokenWord

__all__ = [
    "DEFAULT_URL",
    "AsyncTTSClient",
    "BlockingSpeechSession",
    "ConnectionFailed",
    "ConnectionLoss",
    "Interruption",
    "PlaybackBuffer",
    "PlaybackFailed",
    "Player",
    "RequestFailed",
    "ServerBusy",
    "SpeechSession",
    "SpokenText",
    "SpokenWord",
    "TTSClient",
    "TTSClientError",
]
