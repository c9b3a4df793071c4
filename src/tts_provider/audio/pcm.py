"""Converts samples to bytes and back: 16-bit and float PCM, the WAV header, resampling."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from tts_provider.audio.encode import tag

BYTES_PER_SAMPLE = 2
SAMPLE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# RIFF size for a stream of unknown length: players read until the end.
_UNKNOWN_BYTES = 0xFFFF_FFFF
UNKNOWN_WAV_SIZE = struct.pack("<I", _UNKNOWN_BYTES)
"""As a header has it, at byte 4."""

Samples = npt.NDArray[np.float32]


def to_s16(samples: Samples) -> bytes:
    """Float samples in [-1, 1], shape (n,) → little-endian 16-bit PCM; louder is clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def from_s16(data: bytes) -> Samples:
    """Little-endian 16-bit PCM → float samples in [-1, 1), shape (n,)."""
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0


def to_f32(samples: Samples) -> bytes:
    """Float samples in [-1, 1], shape (n,) → little-endian 32-bit floats; louder is clipped."""
    return np.clip(samples, -1.0, 1.0).astype("<f4").tobytes()


@dataclass(frozen=True)
class WavCoding:
    """How a WAV file's header names what is in it, and how many bytes a sample has."""

    tag: int
    sample_bytes: int


WAV_PCM = WavCoding(1, 2)
WAV_FLOAT = WavCoding(3, 4)
WAV_ALAW = WavCoding(6, 1)
WAV_MULAW = WavCoding(7, 1)


def wav_header(
    sample_rate: int,
    data_bytes: int | None = None,
    coding: WavCoding = WAV_PCM,
    *,
    behind_bytes: int = 0,
) -> bytes:
    """What stands before mono audio: for PCM the 44 bytes that many clients cut off unread. Its
    size depends on the coding only. `data_bytes` is None where the length is not known,
    `behind_bytes` are those of `wav_tag` where it follows the audio.

    http://soundfile.sapp.org/doc/WaveFormat/, and for other codings than PCM
    https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
    """
    form = struct.pack(
        "<HHIIHH",
        coding.tag,
        1,  # mono
        sample_rate,
        sample_rate * coding.sample_bytes,
        coding.sample_bytes,
        8 * coding.sample_bytes,
    )
    fact = b""
    if coding is not WAV_PCM:
        form += struct.pack("<H", 0)  # no more about the coding
        samples = _UNKNOWN_BYTES if data_bytes is None else data_bytes // coding.sample_bytes
        fact = _chunk(b"fact", struct.pack("<I", samples))
    body = b"WAVE" + _chunk(b"fmt ", form) + fact
    after_riff_bytes = len(body) + 8
    if data_bytes is None:
        riff_bytes = data_bytes = _UNKNOWN_BYTES
    else:
        riff_bytes = after_riff_bytes + data_bytes + behind_bytes
    before_data = struct.pack("<4sI", b"RIFF", riff_bytes) + body
    return before_data + struct.pack("<4sI", b"data", data_bytes)


def wav_tag(data_bytes: int) -> bytes:
    """The metadata that names the generator, for the place after this much audio."""
    info = b"INFO" + _chunk(b"ISFT", _text(tag.SOFTWARE)) + _chunk(b"ICMT", _text(tag.COMMENT))
    return bytes(data_bytes % 2) + _chunk(b"LIST", info)


def wav_data_at(header: bytes) -> int | None:
    """Where the audio begins in any WAV file whose first bytes are `header`; None if they do not
    tell."""
    at = 12  # behind "RIFF", its size and "WAVE"
    while at + 8 <= len(header):
        name, size_bytes = struct.unpack_from("<4sI", header, at)
        if name == b"data":
            return at + 8
        at += 8 + size_bytes + size_bytes % 2
    return None


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data


def _text(text: str) -> bytes:
    """Zero-terminated, and of even length, as RIFF aligns its chunks."""
    data = text.encode("ascii") + b"\0"
    return data + b"\0" * (len(data) % 2)


class Resampler:
    """Resamples a stream; the pieces join without a seam. Equal rates pass through."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._stream = (
            None
            if rate_in == rate_out
            else soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
        )

    def push(self, samples: Samples) -> Samples:
        """The output that `samples` completes, (m,)."""
        if self._stream is None:
            return samples
        out: Samples = self._stream.resample_chunk(samples)
        return out

    def finish(self) -> Samples:
        """The rest."""
        nothing = np.zeros(0, np.float32)
        if self._stream is None:
            return nothing
        out: Samples = self._stream.resample_chunk(nothing, last=True)
        return out
