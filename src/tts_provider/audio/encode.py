"""Samples → the bytes of a file, as they are made."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np

from tts_provider.audio.pcm import Resampler, Samples, to_s16, wav_header
from tts_provider.errors import InvalidRequest

Format = Literal["wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"]
FORMATS: tuple[Format, ...] = get_args(Format)
AVAILABLE_FORMATS: tuple[Format, ...] = ("wav", "pcm")


class Encoder(Protocol):
    """What comes out of `start`, every `push` and `finish`, joined, is one valid file."""

    def start(self) -> bytes: ...
    def push(self, samples: Samples) -> bytes: ...
    def finish(self) -> bytes: ...


class PcmEncoder:
    """16-bit PCM at any rate, bare or behind a WAV header of unknown length."""

    def __init__(self, rate_in: int, rate_out: int, *, wav: bool) -> None:
        self._header = wav_header(rate_out) if wav else b""
        self._resampler = Resampler(rate_in, rate_out)

    def start(self) -> bytes:
        return self._header

    def push(self, samples: Samples) -> bytes:
        return to_s16(self._resampler.push(samples))

    def finish(self) -> bytes:
        return to_s16(self._resampler.push(np.zeros(0, np.float32), last=True))


def create_encoder(audio_format: Format, rate_in: int, rate_out: int) -> Encoder:
    """Raises `InvalidRequest` where the format is not available yet."""
    check_format(audio_format)
    return PcmEncoder(rate_in, rate_out, wav=audio_format == "wav")


def check_format(audio_format: Format) -> None:
    if audio_format not in AVAILABLE_FORMATS:
        raise InvalidRequest(
            f"format '{audio_format}' is not available yet on this server; "
            f"it has {' and '.join(AVAILABLE_FORMATS)}",
            code="format_not_available",
            param="format",
        )
