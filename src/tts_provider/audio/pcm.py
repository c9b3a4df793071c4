"""Samples as bytes: 16-bit PCM, the WAV header, resampling, and one streaming encoder for both."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import soxr

BYTES_PER_SAMPLE = 2
SAMPLE_RATES = (8000, 16000, 22050, 24000, 44100, 48000)

WAV_HEADER_BYTES = 44
# RIFF sizes of a stream whose length is not known yet: players read on until the end.
_UNKNOWN_BYTES = 0xFFFF_FFFF

Samples = npt.NDArray[np.float32]


def to_s16(samples: Samples) -> bytes:
    """Float samples in [-1, 1], shape (n,) → little-endian 16-bit PCM; louder is clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def from_s16(data: bytes) -> Samples:
    """Little-endian 16-bit PCM → float samples in [-1, 1), shape (n,)."""
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0


def wav_header(sample_rate: int, data_bytes: int | None = None) -> bytes:
    """The 44 bytes before mono 16-bit PCM; `data_bytes` is None where the length is not known.

    http://soundfile.sapp.org/doc/WaveFormat/
    """
    riff_bytes = _UNKNOWN_BYTES if data_bytes is None else data_bytes + WAV_HEADER_BYTES - 8
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,  # PCM
        1,  # mono
        sample_rate,
        sample_rate * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        _UNKNOWN_BYTES if data_bytes is None else data_bytes,
    )


class Resampler:
    """Streaming resampling; the pieces join without a seam. Passes through where rates agree."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._stream = (
            None
            if rate_in == rate_out
            else soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
        )

    def push(self, samples: Samples, *, last: bool = False) -> Samples:
        """The output that `samples` completes, (m,); with `last`, all that is left."""
        if self._stream is None:
            return samples
        out: Samples = self._stream.resample_chunk(samples, last=last)
        return out
