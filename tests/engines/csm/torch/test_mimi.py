"""The oracle is transformers' MimiModel over whole sequences."""

from __future__ import annotations

import numpy as np
import pytest

from engines.csm.onnx.test_mimi import (
    OTHER_SHAPES,
    SAMPLES,
    TOLERANCE,
    decode_whole,
    encode_whole,
    random_codes,
    sound,
)
from engines.csm.small_codec import make_small_mimi, mimi_config_of, mimi_weights_of
from lazy_import import lazy_import

mimi = lazy_import("tts_provider.engines.csm.torch.mimi")
torch = lazy_import("torch")
MOST_FRAMES = 4


@pytest.fixture(scope="module")
def model():
    return make_small_mimi(seed=1)


def weights_of(model) -> mimi.MimiWeights:
    return mimi.MimiWeights(mimi_config_of(model), mimi_weights_of(model), torch.device("cpu"))


class Streams:
    """A decoder and how far each of its rows is."""

    def __init__(self, model, rows: int) -> None:
        self.decoder, self.starts = mimi.MimiDecoder(weights_of(model), rows), [0] * rows

    def decode(self, rows: list[int], codes: np.ndarray) -> np.ndarray:
        """codes [rows, codebooks, frames]"""
        with torch.no_grad():
            starts = torch.tensor([self.starts[row] for row in rows])
            frames = torch.from_numpy(codes).transpose(1, 2)
            pcm = self.decoder.run(torch.tensor(rows), starts, frames).numpy()
        for row in rows:
            self.starts[row] += codes.shape[2]
        return pcm


@pytest.mark.parametrize("step", range(1, MOST_FRAMES + 1))
def test_a_stream_longer_than_the_window(model, step):
    assert mimi.MOST_FRAMES == MOST_FRAMES
    codes = random_codes(model, 160, seed=step)  # 320 positions over a window of 250
    streams = Streams(model, rows=1)
    parts = [streams.decode([0], codes[None, :, at : at + step])[0] for at in range(0, 160, step)]
    np.testing.assert_allclose(np.concatenate(parts), decode_whole(model, codes), atol=TOLERANCE)


def test_rows_at_different_positions_in_random_pieces(model):
    """Random subsets of rows, in any order; ended streams make room for new ones."""
    random, streams = np.random.default_rng(3), Streams(model, rows=3)
    waiting = [random_codes(model, length, seed=20 + length) for length in (33, 21, 40, 9, 14)]
    numbers, running = iter(range(len(waiting))), {}
    heard: list[list[np.ndarray]] = [[] for _ in waiting]
    while True:
        for row in range(3):
            if row not in running and (number := next(numbers, None)) is not None:
                streams.decoder.reset(row)
                streams.starts[row], running[row] = 0, number
        if not running:
            break
        chosen = [int(row) for row in random.permutation(list(running))]
        chosen = chosen[: random.integers(1, len(chosen) + 1)]
        left = min(waiting[running[row]].shape[1] - streams.starts[row] for row in chosen)
        frames = min(int(random.integers(1, MOST_FRAMES + 1)), left)
        codes = [waiting[running[r]][:, streams.starts[r] :][:, :frames] for r in chosen]
        for row, pcm in zip(chosen, streams.decode(chosen, np.stack(codes)), strict=True):
            heard[running[row]].append(pcm)
            if streams.starts[row] == waiting[running[row]].shape[1]:
                del running[row]
    for parts, codes in zip(heard, waiting, strict=True):
        whole = decode_whole(model, codes)
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=TOLERANCE)


def test_other_shapes_of_the_architecture():
    """Shared key heads, dilated residual layers, wider groups, no projections, a short window."""
    other = make_small_mimi(seed=2, **OTHER_SHAPES)
    codes, streams = random_codes(other, 12, seed=0), Streams(other, rows=1)
    parts = [streams.decode([0], codes[None, :, at : at + 3])[0] for at in range(0, 12, 3)]
    np.testing.assert_allclose(np.concatenate(parts), decode_whole(other, codes), atol=TOLERANCE)
    samples = sound(12_345)
    with torch.no_grad():
        found = mimi.MimiEncoder(weights_of(other)).run(torch.from_numpy(samples))
    np.testing.assert_array_equal(found.numpy(), encode_whole(other, samples))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_upsampling_is_the_grouped_transposed_convolution(stride, has_bias):
    """To the last bit."""
    random = torch.Generator().manual_seed(stride)
    x = torch.randn((3, 40, 9), generator=random)
    from tts_provider.engines.csm.torch.mimi import _spread as spread

    weight = torch.randn((40, 1, 2 * stride), generator=random)
    bias = torch.randn(40, generator=random) if has_bias else None
    expected = torch.nn.functional.conv_transpose1d(x, weight, bias, stride=stride, groups=40)
    expected = expected[:, :, stride : stride + 8 * stride]
    found = spread(x, weight[:, 0], bias)
    if has_bias:  # it is added first there
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("piece_steps", [2, 7, 30])
@pytest.mark.parametrize("length", [1, 961, 50_001, 12 * 24_000 + 77])
def test_a_recording_encodes_the_same_in_any_pieces(model, monkeypatch, piece_steps, length):
    samples = sound(length, seed=length)
    expected = encode_whole(model, samples)
    monkeypatch.setattr("tts_provider.engines.csm.torch.mimi.PIECE_STEPS", piece_steps)
    with torch.no_grad():
        codes = mimi.MimiEncoder(weights_of(model)).run(torch.from_numpy(samples))
    np.testing.assert_array_equal(codes.numpy(), expected)


@pytest.mark.parametrize("length", [1, 5, 961, SAMPLES, SAMPLES + 1, 50_001, 12 * 24_000 + 77])
def test_encodes_any_length_as_transformers_does(model, length):
    samples = sound(length, seed=length)
    with torch.no_grad():
        codes = mimi.MimiEncoder(weights_of(model)).run(torch.from_numpy(samples))
    assert codes.shape == (32, -(-length // SAMPLES))
    np.testing.assert_array_equal(codes.numpy(), encode_whole(model, samples))
