"""The graphs against the package's own networks, which want torch."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import soxr

from lazy_import import lazy_import
from recordings import speech
from tts_provider.audio.watermark import spectrum
from tts_provider.audio.watermark.mark import Marker
from tts_provider.audio.watermark.weights import _FILE

torch = lazy_import("torch")

WINDOW, HOP = 2048, 320
TRAINED_RATE = 32_000


@pytest.fixture(scope="module")
def original():
    """Its encoder and its decoder. Its package's `__init__` wants more than torch, these two do
    not."""
    file = Path(str(importlib.metadata.distribution("resemble-perth").locate_file(_FILE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(file.parents[2]))
        networks = [
            importlib.import_module(f"perth_net_implicit.model.{name}")
            for name in ("encoder", "decoder")
        ]
    model = torch.load(file, map_location="cpu", weights_only=True)["model"]
    pair = networks[0].Encoder(256, 128), networks[1].Decoder(256, 128)
    for name, network in zip(("encoder.", "decoder."), pair, strict=True):
        network.load_state_dict(
            {key.removeprefix(name): value for key, value in model.items() if key.startswith(name)}
        )
        network.eval()
    return pair


def levels_32_khz(samples: np.ndarray) -> torch.Tensor:
    """(n,) at 32 kHz → all the levels of its spectrum, (bins, T), as the package computes them."""
    stft = torch.stft(
        torch.from_numpy(samples),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW),
        return_complex=True,
    )
    return (20 * torch.log10(stft.abs().clip(1e-9)) + 180) / 195


@pytest.fixture(scope="module")
def samples():
    """Speech in a quiet room: the original leaves frames of zeros out."""
    room = np.random.default_rng(0).normal(0, 1e-4, len(speech()))
    return (speech() + room).astype(np.float32)


@pytest.fixture(scope="module")
def levels(samples):
    return levels_32_khz(soxr.resample(samples, 24_000, TRAINED_RATE))


def test_the_encoder_changes_what_the_original_changes(encoder, original, levels):
    with torch.no_grad():
        marked, _ = original[0](levels[np.newaxis])
    expected = (marked[0] - levels)[: spectrum.BINS].numpy()
    change = encoder.change(levels[: spectrum.BINS].numpy())
    assert np.abs(change).max() > 0.01
    assert np.abs(change - expected).max() < 1e-5


def test_the_decoder_answers_what_the_original_answers(decoder, original, levels):
    with torch.no_grad():
        marked, _ = original[0](levels[np.newaxis])
        for wanted, spoken in ((0.0, levels), (1.0, marked[0])):
            expected = float(original[1](spoken[np.newaxis])[0])
            means = np.array([answer.mean(axis=1) for answer in decoder.look(spoken[:128].numpy())])
            weights = np.exp(means[:, 0]) / np.exp(means[:, 0]).sum()
            assert (weights * means[:, 1]).sum() == pytest.approx(expected, abs=1e-3)
            assert expected == pytest.approx(wanted, abs=0.1)


def test_at_24_khz_the_levels_are_those_of_32(samples, levels):
    padded = np.pad(samples, spectrum.WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, spectrum.WINDOW)[:: spectrum.HOP]
    ours = spectrum.levels(spectrum.spectra(frames * spectrum.window(spectrum.WINDOW)))
    theirs = levels[: spectrum.BINS, : ours.shape[1]].numpy()
    away = np.abs(ours - theirs)[:, 5:-5]  # from the ends, where resampling has its own
    loud = theirs[:, 5:-5] > 0.8
    assert loud.mean() > 0.1
    assert away[loud].max() * 195 < 0.5  # decibels


def test_the_original_finds_the_mark_of_ours(encoder, original):
    marker = Marker(encoder)
    marked = np.concatenate([marker.push(speech()), marker.finish()])
    with torch.no_grad():
        for wanted, samples in ((0.0, speech()), (1.0, marked)):
            levels = levels_32_khz(soxr.resample(samples, 24_000, TRAINED_RATE))
            assert float(original[1](levels[np.newaxis])[0]) == pytest.approx(wanted, abs=0.1)
