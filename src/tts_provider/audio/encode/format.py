"""The audio formats there are, a record each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Format = Literal[
    "wav",
    "pcm",
    "mp3",
    "opus",
    "flac",
    "aac",
    "mulaw",
    "alaw",
    "f32le",
    "wav-f32le",
    "wav-mulaw",
    "wav-alaw",
]


@dataclass(frozen=True)
class AudioFormat:
    """What there is to know of a format without encoding anything."""

    media_type: str
    sample_bytes: int | None = None
    """None where it is compressed."""
    can_be_cut: bool = False
    """Whether it can be sent as a timeline's segments, each of which was encoded by itself: a file
    has one header, and FLAC and AAC one stream. MP3, which has no way to say that a frame is short,
    runs from one flush to the next."""


AUDIO_FORMATS: Mapping[Format, AudioFormat] = {
    "wav": AudioFormat("audio/wav", 2),
    "pcm": AudioFormat("audio/pcm", 2, can_be_cut=True),
    "mp3": AudioFormat("audio/mpeg", can_be_cut=True),
    "opus": AudioFormat("audio/ogg", can_be_cut=True),
    "flac": AudioFormat("audio/flac"),
    "aac": AudioFormat("audio/aac"),
    "mulaw": AudioFormat("audio/basic", 1, can_be_cut=True),
    "alaw": AudioFormat("audio/x-alaw-basic", 1, can_be_cut=True),
    "f32le": AudioFormat("application/octet-stream", 4, can_be_cut=True),
    "wav-f32le": AudioFormat("audio/wav", 4),
    "wav-mulaw": AudioFormat("audio/wav", 1),
    "wav-alaw": AudioFormat("audio/wav", 1),
}

COMMON_FORMATS: tuple[Format, ...] = ("wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw")
"""Those that our own clients can ask for by name."""
