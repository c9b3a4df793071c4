"""Decodes audio from clients to mono samples at 24 kHz, within limits whatever the file says of
itself."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
import numpy.typing as npt
import soxr

from tts_provider.audio.decode.demux import frames_of
from tts_provider.audio.pcm import Samples
from tts_provider.errors import InvalidRequest, TTSError

DECODED_RATE = 24_000
MIN_RATE, MAX_RATE = 4000, 192_000
# PyAV 18 reads beyond the list of planes where a frame has 8 channels or more, and may crash.
MAX_CHANNELS = 6

# Integers are divided by this; FFmpeg's unsigned bytes are centered first.
_FULL_SCALE = {"u1": 128.0, "i2": 32768.0, "i4": 2.0**31}
_ROUNDING_S = 1e-6  # of thousands of frames' lengths, added up


def decode_audio(
    data: bytes, *, max_bytes: int = 10 * 1024 * 1024, max_audio_s: float = 60.0
) -> Samples:
    """Decode WAV, MP3, FLAC, Ogg (Opus, Vorbis), M4A, AAC or WebM to (n,) in [-1, 1], n > 0, 24
    kHz.

    Channels are averaged. Decoding stops after `max_audio_s`. Only the process limits what a forged
    file costs, so files from clients go to `decode_process`. Raises `InvalidRequest` with the code
    `audio_too_large`, `audio_too_long`, `unsupported_audio` or `invalid_audio`, and `MemoryError`.
    """
    check_size(data, max_bytes)
    try:
        samples = _at_24_khz(_pieces(data), max_audio_s)
    except (TTSError, MemoryError):
        raise
    except (av.FFmpegError, ValueError, OSError, RuntimeError, LookupError) as error:
        # A LookupError: PyAV cannot handle a stream that begins in the middle of a file.
        raise damaged() from error
    if not len(samples):
        raise _invalid("the audio file has no samples in it")
    if not np.isfinite(samples).all():
        raise _invalid("the audio file has samples that are not numbers")
    return np.clip(samples, -1.0, 1.0)


def check_size(data: bytes | bytearray, max_bytes: int) -> None:
    """Raises `InvalidRequest` if there is nothing to decode, or too much."""
    if len(data) > max_bytes:
        raise InvalidRequest(
            f"audio may have {max_bytes} bytes; got {len(data)}",
            code="audio_too_large",
            param="audio",
        )
    if not data:
        raise _invalid("the audio file is empty")


def damaged() -> InvalidRequest:
    return _invalid("the audio file is damaged or not what it says it is")


def _pieces(data: bytes) -> Iterator[tuple[Samples, int]]:
    for frame in frames_of(data):
        channels = frame.layout.nb_channels
        _check_shape(frame.sample_rate, channels)
        values = frame.to_ndarray()
        if not frame.format.is_planar:
            values = values.reshape(-1, channels).T
        yield _floats(values).mean(axis=0, dtype=np.float32), frame.sample_rate


def _floats(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    kind = values.dtype.str[1:]
    floats = values.astype(np.float32)
    if kind == "u1":
        floats -= 128.0
    return floats / np.float32(_FULL_SCALE.get(kind, 1.0))


def _at_24_khz(pieces: Iterator[tuple[Samples, int]], max_audio_s: float) -> Samples:
    """Join and resample the samples; a stream may change its rate on the way."""
    runs: list[tuple[int, list[Samples]]] = []
    heard_s = 0.0
    for samples, rate in pieces:
        heard_s += len(samples) / rate
        if heard_s > max_audio_s + _ROUNDING_S:
            raise _too_long(max_audio_s)
        if not runs or runs[-1][0] != rate:
            runs.append((rate, []))
        runs[-1][1].append(samples)
    resampled = [
        soxr.resample(np.concatenate(run), rate, DECODED_RATE, quality="HQ") for rate, run in runs
    ]
    return np.concatenate(resampled, dtype=np.float32) if resampled else np.zeros(0, np.float32)


def _check_shape(rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidRequest(
            f"audio must have {MIN_RATE} to {MAX_RATE} samples a second; got {rate}",
            code="unsupported_audio",
            param="audio",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidRequest(
            f"audio must have 1 to {MAX_CHANNELS} channels; got {channels}",
            code="unsupported_audio",
            param="audio",
        )


def _too_long(max_audio_s: float) -> InvalidRequest:
    return InvalidRequest(
        f"audio may be {max_audio_s:g} s long, and this is longer",
        code="audio_too_long",
        param="audio",
    )


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_audio", param="audio")
