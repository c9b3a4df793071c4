"""Samples → a FLAC file, whole: how recordings of people are kept. `compress` is for speech that
was made here, and says so in its tags."""

from __future__ import annotations

import io

import av
import numpy as np

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
