"""Recordings for the tests: the embedded voices' real speech, in the formats people send."""

from __future__ import annotations

import asyncio
import functools
import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream

from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.speech.engine import Utterance

TEXT = (
    "The north wind and the sun were disputing which was the stronger, when a traveller came along "
    "wrapped in a warm cloak. They agreed that the one who first made him take it off should win."
)

# Name → container, encoder.
FORMATS = {
    "mp3": ("mp3", "libmp3lame"),
    "flac": ("flac", "flac"),
    "opus": ("ogg", "libopus"),
    "ogg": ("ogg", "vorbis"),
    "m4a": ("ipod", "aac"),
    "alac.m4a": ("ipod", "alac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "vorbis"),
}


@functools.cache
def speech(voice: str = "male", text: str = TEXT) -> np.ndarray:
    """(n,) at 24 kHz; read only."""

    async def speak() -> np.ndarray:
        chosen = next(candidate for candidate in VOICES if candidate.id == voice)
        utterance = Utterance(text, chosen)
        return np.concatenate([chunk.samples async for chunk in EspeakEngine().speak(utterance)])

    with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own
        samples = thread.submit(lambda: asyncio.run(speak())).result()
    samples.flags.writeable = False
    return samples


def encode(
    samples: np.ndarray,
    name: str,
    *,
    rate: int = 24_000,
    channels: int = 1,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """Samples (n,) at 24 kHz → a file of that format, the same in all channels."""
    container_name, encoder = FORMATS[name]
    if encoder == "vorbis":
        channels = 2  # the only one that FFmpeg's encoder has
    sink = io.BytesIO()
    with av.open(
        sink, "w", format=container_name, container_options=container_options or {}
    ) as out:
        layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels}.0")
        stream = cast(
            AudioStream,
            out.add_stream(encoder, rate, layout=layout, options={"strict": "experimental"}),
        )
        audio = soxr.resample(samples, 24_000, rate) if rate != 24_000 else samples
        planes = np.repeat(audio[np.newaxis].astype(np.float32), channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), "fltp", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, stream.layout, rate)
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return sink.getvalue()


def wav(
    samples: np.ndarray, kind: str = "<i2", *, rate: int = 24_000, channels: int = 1, **fields: Any
) -> bytes:
    """A WAV file of samples at `rate`; `kind` is numpy's, or `<i3` for 24 bits. `fields` replace
    what the header says: `tag`, `rate_said`, `channels_said`, `data_bytes`."""
    planes = np.repeat(samples[:, np.newaxis], channels, axis=1).ravel()
    sample_bytes = int(kind[-1])
    if "f" in kind:
        data = planes.astype(kind).tobytes()
    elif sample_bytes == 1:
        data = np.round(planes * 127 + 128).astype(np.uint8).tobytes()
    else:
        wide = np.round(planes.astype(np.float64) * (2**31 - 1)).astype("<i4")
        data = wide.view(np.uint8).reshape(-1, 4)[:, 4 - sample_bytes :].tobytes()
    said = fields.get("channels_said", channels)
    header = struct.pack(
        "<HHIIHH",
        fields.get("tag", 3 if "f" in kind else 1),
        said,
        fields.get("rate_said", rate),
        rate * said * sample_bytes & 0xFFFF_FFFF,
        said * sample_bytes & 0xFFFF,
        8 * sample_bytes,
    )
    data_bytes = fields.get("data_bytes", len(data))
    riff = struct.pack("<4sI4s4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16)
    return riff + header + struct.pack("<4sI", b"data", data_bytes) + data
