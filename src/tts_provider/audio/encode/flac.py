"""Samples ⇄ a FLAC file, whole: how recordings of people and parts of books are kept. `compress` is
for what leaves us, and says in its tags where it was made."""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples, to_s16


def write_flac(samples: Samples, rate: int) -> bytes:
    """(n,) in [-1, 1] → mono, 16 bits, at `rate`."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="flac") as container:
        stream = container.add_stream("flac", rate, layout="mono", format="s16")
        data = np.frombuffer(to_s16(samples), "<i2").astype(np.int16, copy=False)
        frame = av.AudioFrame.from_ndarray(data[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.getvalue()


def read_flac(data: bytes) -> npt.NDArray[np.int16]:
    """What `write_flac` was given, (n,). Of our own files: those of strangers go to `decode`."""
    with av.open(io.BytesIO(data), "r", format="flac") as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(frames) if frames else np.zeros(0, np.int16)
