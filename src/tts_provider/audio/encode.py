"""Samples → the bytes of a file, as they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np

from tts_provider.audio.compress import OPUS_RATES, CompressedEncoder
from tts_provider.audio.g711 import to_alaw, to_mulaw
from tts_provider.audio.pcm import SAMPLE_RATES, Resampler, Samples, to_s16, wav_header
from tts_provider.errors import InvalidRequest

Format = Literal["wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Encoder(Protocol):
    """What comes out of `start`, every `push` and `finish`, joined, is one valid file, and does
    not depend on how the samples were cut. `close` whatever is not finished."""

    def start(self) -> bytes: ...
    def push(self, samples: Samples) -> bytes: ...
    def finish(self) -> bytes: ...

    def patches(self) -> list[tuple[int, bytes]]:
        """After `finish`: what to write over the file at these positions, where it is still
        whole. They are lengths, which a stream's header cannot know."""

    def close(self) -> None: ...


class PcmEncoder:
    """One number for each sample: 16-bit PCM, bare or behind a WAV header, or 8-bit G.711."""

    def __init__(
        self, to_bytes: Callable[[Samples], bytes], rate_in: int, rate_out: int, *, wav: bool
    ) -> None:
        self._to_bytes = to_bytes
        self._resampler = Resampler(rate_in, rate_out)
        self._rate = rate_out
        self._wav = wav
        self._data_bytes = 0

    def start(self) -> bytes:
        return wav_header(self._rate) if self._wav else b""

    def push(self, samples: Samples) -> bytes:
        return self._encode(self._resampler.push(samples))

    def finish(self) -> bytes:
        return self._encode(self._resampler.push(np.zeros(0, np.float32), last=True))

    def patches(self) -> list[tuple[int, bytes]]:
        return [(0, wav_header(self._rate, self._data_bytes))] if self._wav else []

    def close(self) -> None:
        pass

    def _encode(self, samples: Samples) -> bytes:
        data = self._to_bytes(samples)
        self._data_bytes += len(data)
        return data


def create_encoder(
    audio_format: Format,
    rate_in: int,
    rate_out: int,
    *,
    bits_per_second: int | None = None,
    is_stream: bool = False,
) -> Encoder:
    """`bits_per_second` is for what is compressed with loss; an MP3 `is_stream` where it has frames
    of audio only, which can follow others.

    Raises `InvalidRequest` where the format does not exist at `rate_out`.
    """
    check_format(audio_format, rate_out)
    if audio_format == "wav" or audio_format == "pcm":
        return PcmEncoder(to_s16, rate_in, rate_out, wav=audio_format == "wav")
    if audio_format == "mulaw" or audio_format == "alaw":
        to_bytes = to_mulaw if audio_format == "mulaw" else to_alaw
        return PcmEncoder(to_bytes, rate_in, rate_out, wav=False)
    return CompressedEncoder(
        audio_format, rate_in, rate_out, bits_per_second=bits_per_second, is_stream=is_stream
    )


def check_format(audio_format: Format, sample_rate: int) -> None:
    """Raises `InvalidRequest` where the format does not exist at this rate."""
    rates = OPUS_RATES if audio_format == "opus" else SAMPLE_RATES
    if sample_rate not in rates:
        raise InvalidRequest(
            f"sample_rate must be one of {', '.join(map(str, rates))} for {audio_format}; "
            f"got {sample_rate}",
            param="sample_rate",
        )
