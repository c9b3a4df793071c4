"""What a listener has: FFmpeg's decoders, and libsndfile's, which share no code with them (libFLAC,
libopus, mpg123). Neither is told more than a file's own header says."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import soundfile

_HEADERLESS = {"pcm": "s16le", "f32le": "f32le", "mulaw": "mulaw", "alaw": "alaw"}


def decode(data: bytes, audio_format: str, rate: int) -> tuple[np.ndarray, int, dict[str, str]]:
    """Samples in [-1, 1], their rate, and the file's tags, by FFmpeg. `rate` is what a client
    knows of formats without a header."""
    headerless = audio_format in _HEADERLESS
    with av.open(
        io.BytesIO(data),
        format=_HEADERLESS.get(audio_format),
        options={"sample_rate": str(rate)} if headerless else {},
    ) as file:
        stream = file.streams.audio[0]
        frames = [frame.to_ndarray().reshape(-1) for frame in file.decode(stream)]
        samples = np.concatenate(frames) if frames else np.zeros(0, np.float32)
        if samples.dtype != np.float32:
            samples = samples.astype(np.float32) / 32768
        return samples, stream.rate, {**file.metadata, **stream.metadata}


def decode_elsewhere(data: bytes) -> tuple[np.ndarray, int]:
    """Samples in [-1, 1] and their rate, by libsndfile."""
    return soundfile.read(io.BytesIO(data), dtype="float32")


def wav_data(file: bytes) -> bytes:
    """The samples of 16-bit PCM, without what stands before and behind them."""
    with wave.open(io.BytesIO(file)) as wav:
        return wav.readframes(len(file))
