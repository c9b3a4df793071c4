"""Loudness as FFmpeg's own meter has it."""

from __future__ import annotations

import av
import numpy as np
import pytest

from recordings import speech
from tts_provider.audio.loudness import block_energies, loudness_lufs


def ebur128(samples: np.ndarray) -> float:
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=24_000, format="flt", layout="mono")
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = 24_000
    graph.push(frame)
    graph.push(None)
    told = 0.0
    while True:
        try:
            told = float(graph.pull().metadata.get("lavfi.r128.I", told))
        except (av.EOFError, BlockingIOError):
            return told


def test_it_is_what_another_meter_says():
    voice = speech()
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * 24_000).astype(np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 997 * np.arange(5 * 24_000) / 24_000, dtype=np.float32)
    for samples in (voice, noise, tone, np.concatenate([0.05 * noise, tone, voice])):
        samples = samples.astype(np.float32)
        assert loudness_lufs(block_energies(samples)) == pytest.approx(ebur128(samples), abs=0.3)


def test_silence_has_none():
    assert loudness_lufs(block_energies(np.zeros(24_000, np.float32))) is None
    assert loudness_lufs(block_energies(np.zeros(0, np.float32))) is None
    assert loudness_lufs(block_energies(np.full(100, 0.5, np.float32))) is not None
