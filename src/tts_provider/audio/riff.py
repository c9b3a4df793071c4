"""WAV files of others: the chunks, and the samples in them as floats.

FFmpeg is not asked: an ID3 tag in a chunk makes its demuxer unpack gigabytes out of one megabyte.
http://soundfile.sapp.org/doc/WaveFormat/, and RF64: https://tech.ebu.ch/docs/tech/tech3306.pdf
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from tts_provider.errors import InvalidRequest

_EXTENSIBLE = 0xFFFE
_KINDS: dict[int, Literal["int", "float", "alaw", "mulaw"]] = {
    1: "int",
    3: "float",
    6: "alaw",
    7: "mulaw",
}
_BYTES_A_SAMPLE = {"int": (1, 2, 3, 4), "float": (4, 8), "alaw": (1,), "mulaw": (1,)}


@dataclass(frozen=True)
class Wav:
    kind: Literal["int", "float", "alaw", "mulaw"]
    sample_bytes: int
    rate: int
    channels: int
    data: memoryview

    @property
    def frames(self) -> int:
        return len(self.data) // (self.channels * self.sample_bytes)

    def samples(self) -> npt.NDArray[np.float32]:
        """All channels, (channels, frames), in [-1, 1]; floats may be beyond."""
        whole = self.data[: self.frames * self.channels * self.sample_bytes]
        return _floats(whole, self.kind, self.sample_bytes).reshape(-1, self.channels).T


def read_wav(data: bytes) -> Wav:
    """Raises `InvalidRequest` where this is no WAV file of plain numbers."""
    view, at = memoryview(data), 12
    form: tuple[int, ...] | None = None
    while at + 8 <= len(data):
        name, size_bytes = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"fmt ":
            form = _read_format(data[at : at + size_bytes])
        elif name == b"data":
            if form is None:
                break
            tag, channels, rate, sample_bytes = form
            # A stream's header, and RF64, have no length here: what is there counts.
            return Wav(_KINDS[tag], sample_bytes, rate, channels, view[at : at + size_bytes])
        at += size_bytes + size_bytes % 2
    raise InvalidRequest("the WAV file has no audio in it", code="invalid_audio", param="audio")


def _read_format(chunk: bytes) -> tuple[int, int, int, int]:
    """Tag, channels, samples a second, bytes a sample."""
    if len(chunk) < 16:
        raise InvalidRequest(
            "the WAV file's format chunk is cut off", code="invalid_audio", param="audio"
        )
    tag, channels, rate, _, block_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    sample_bytes = block_bytes // channels if channels else 0
    known = tag in _KINDS and sample_bytes in _BYTES_A_SAMPLE[_KINDS[tag]]
    if not known or block_bytes % channels or bits > 8 * sample_bytes:
        raise InvalidRequest(
            f"the WAV file's format (tag {tag}, {channels} channels, {bits} bits) is not "
            "supported; save it as 16-bit PCM",
            code="unsupported_audio",
            param="audio",
        )
    return tag, channels, rate, sample_bytes


def _floats(data: memoryview, kind: str, sample_bytes: int) -> npt.NDArray[np.float32]:
    if kind == "float":
        return np.frombuffer(data, f"<f{sample_bytes}").astype(np.float32)
    if kind in ("alaw", "mulaw"):
        decoder = av.CodecContext.create(f"pcm_{kind}", "r")
        assert isinstance(decoder, av.AudioCodecContext)
        decoder.layout, decoder.sample_rate = "mono", 8000
        frames = decoder.decode(av.Packet(bytes(data))) if len(data) else []
        decoded = [frame.to_ndarray()[0] for frame in frames] or [np.zeros(0, np.int16)]
        return np.concatenate(decoded).astype(np.float32) / 32768.0
    if sample_bytes == 1:  # the only one without a sign
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    # Left-aligned in 32 bits, so that 24 bits need no arithmetic of their own.
    aligned = np.zeros((len(data) // sample_bytes, 4), np.uint8)
    aligned[:, 4 - sample_bytes :] = np.frombuffer(data, np.uint8).reshape(-1, sample_bytes)
    floats: npt.NDArray[np.float32] = aligned.view("<i4")[:, 0].astype(np.float32)
    return floats / np.float32(2**31)
