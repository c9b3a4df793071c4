"""The oracle is transformers' MimiModel over whole sequences."""

from __future__ import annotations

import numpy as np
import pytest

from engines.csm.small_codec import make_small_mimi, mimi_config_of, mimi_weights_of
from lazy_import import lazy_import
from tts_provider.engines.csm.onnx.mimi import MimiDecoder, MimiEncoder

torch = lazy_import("torch")
transformers = lazy_import("transformers")

SAMPLES = 1920  # a frame
# The outputs are of the order of one.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model() -> transformers.MimiModel:
    return make_small_mimi(seed=1)


@pytest.fixture(scope="module")
def encoder(model: transformers.MimiModel) -> MimiEncoder:
    return MimiEncoder(mimi_config_of(model), mimi_weights_of(model), threads=1)


def make_decoder(model: transformers.MimiModel, rows: int) -> MimiDecoder:
    return MimiDecoder(mimi_config_of(model), mimi_weights_of(model), rows, threads=1)


def random_codes(model: transformers.MimiModel, frames: int, seed: int) -> np.ndarray:
    shape = (model.config.num_quantizers, frames)
    return np.random.default_rng(seed).integers(0, model.config.codebook_size, shape)


def decode_whole(model: transformers.MimiModel, codes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        pcm = model.decode(torch.from_numpy(codes)[None]).audio_values[0, 0].numpy()
    assert 0.1 < np.sqrt(np.mean(pcm**2)) < 10
    return pcm


def encode_whole(model: transformers.MimiModel, samples: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        values = torch.from_numpy(samples)[None, None]
        return model.encode(values, num_quantizers=32).audio_codes[0].numpy()


def sound(length: int, seed: int = 0) -> np.ndarray:
    """Tones that come and go, and noise."""
    random = np.random.default_rng(seed)
    time = np.arange(length) / 24_000
    tones = sum(np.sin(2 * np.pi * (f * time + random.random())) for f in (140, 450, 2100))
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 1.5 * time)
    return (0.3 * tones * swell + 0.1 * random.normal(size=length)).astype(np.float32)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 40])
def test_a_stream_in_pieces_is_the_whole(model: transformers.MimiModel, step: int) -> None:
    codes = random_codes(model, 40, seed=step)
    decoder = make_decoder(model, rows=1)
    parts = [decoder.decode([0], codes[None, :, at : at + step])[0] for at in range(0, 40, step)]
    assert [len(part) for part in parts[:-1]] == [step * SAMPLES] * (len(parts) - 1)
    pcm = np.concatenate(parts)
    assert pcm.dtype == np.float32
    np.testing.assert_allclose(pcm, decode_whole(model, codes), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("step", [1, 9, 300])
def test_a_stream_longer_than_the_window(model: transformers.MimiModel, step: int) -> None:
    codes = random_codes(model, 300, seed=7)  # 600 positions over a window of 250
    decoder = make_decoder(model, rows=1)
    parts = [decoder.decode([0], codes[None, :, at : at + step])[0] for at in range(0, 300, step)]
    pcm = np.concatenate(parts)
    np.testing.assert_allclose(pcm, decode_whole(model, codes), atol=TOLERANCE, rtol=0)


def test_the_window_is_heard(model: transformers.MimiModel) -> None:
    """What the last test relies on: with another window the same codes sound different."""
    wider = make_small_mimi(seed=1, sliding_window=300)
    codes = random_codes(model, 135, seed=7)
    assert np.abs(decode_whole(model, codes) - decode_whole(wider, codes)).max() > 10 * TOLERANCE


def test_rows_at_different_positions_in_random_pieces(model: transformers.MimiModel) -> None:
    """Random subsets of rows, in any order, in random pieces; ended streams make room for new."""
    random = np.random.default_rng(3)
    rows = 4
    decoder = make_decoder(model, rows)
    lengths = [130, 33, 21, 50, 17, 40, 9]
    waiting = [random_codes(model, length, seed=20 + i) for i, length in enumerate(lengths)]
    wanted = [decode_whole(model, codes) for codes in waiting]
    streams: dict[int, int] = {}  # by row
    done = [0] * len(lengths)
    heard: list[list[np.ndarray]] = [[] for _ in lengths]
    started = 0
    while True:
        for row in range(rows):
            if row not in streams and started < len(lengths):
                decoder.reset(row)
                streams[row], started = started, started + 1
        if not streams:
            break
        count = int(random.integers(1, len(streams) + 1))
        chosen = [int(row) for row in random.permutation(list(streams))[:count]]
        left = min(lengths[streams[row]] - done[streams[row]] for row in chosen)
        frames = min(int(random.choice([1, 1, 2, 3, 5, 11])), left)
        codes = [waiting[streams[r]][:, done[streams[r]] :][:, :frames] for r in chosen]
        for row, pcm in zip(chosen, decoder.decode(chosen, np.stack(codes)), strict=True):
            stream = streams[row]
            heard[stream].append(pcm)
            done[stream] += frames
            if done[stream] == lengths[stream]:
                del streams[row]
    for parts, whole in zip(heard, wanted, strict=True):
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=TOLERANCE, rtol=0)


def test_all_rows_at_once(model: transformers.MimiModel) -> None:
    decoder = make_decoder(model, rows=3)
    codes = np.stack([random_codes(model, 6, seed=i) for i in range(3)])
    parts = [decoder.decode(range(3), codes[:, :, at : at + 2]) for at in range(0, 6, 2)]
    whole = np.stack([decode_whole(model, one) for one in codes])
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=TOLERANCE, rtol=0)


def test_no_frames_give_no_samples(model: transformers.MimiModel) -> None:
    decoder = make_decoder(model, rows=2)
    assert decoder.decode([1], np.zeros((1, 32, 0), np.int64)).shape == (1, 0)
    assert decoder.decode([], np.zeros((0, 32, 2), np.int64)).shape == (0, 2 * SAMPLES)


OTHER_SHAPES = {
    "num_key_value_heads": 2,
    "num_residual_layers": 2,
    "upsample_groups": 16,
    "num_semantic_quantizers": 2,
    "codebook_dim": 64,
    "vector_quantization_hidden_dimension": 64,
    "sliding_window": 11,
}


def test_other_shapes_of_the_architecture() -> None:
    """Shared key heads, dilated residual layers, wider groups, no projections, a short window."""
    other = make_small_mimi(seed=2, **OTHER_SHAPES)
    codes = random_codes(other, 12, seed=0)
    decoder = make_decoder(other, rows=1)
    parts = [decoder.decode([0], codes[None, :, part])[0] for part in (slice(1), slice(1, None))]
    pcm = np.concatenate(parts)
    np.testing.assert_allclose(pcm, decode_whole(other, codes), atol=TOLERANCE, rtol=0)

    encoder = MimiEncoder(mimi_config_of(other), mimi_weights_of(other), threads=1)
    samples = sound(12_345)
    np.testing.assert_array_equal(encoder.encode(samples), encode_whole(other, samples))


@pytest.mark.parametrize(
    "length", [1, 3, 5, 961, 1919, SAMPLES, SAMPLES + 1, 3 * SAMPLES, 50_001, 12 * 24_000 + 77]
)
def test_encodes_any_length_as_transformers_does(
    model: transformers.MimiModel, encoder: MimiEncoder, length: int
) -> None:
    samples = sound(length, seed=length)
    codes = encoder.encode(samples)
    assert codes.shape == (32, -(-length // SAMPLES))
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, encode_whole(model, samples))


def test_codes_differ_with_the_sound(encoder: MimiEncoder) -> None:
    """What the comparison relies on: the codes are not the same few whatever is heard."""
    codes = encoder.encode(sound(5 * 24_000))
    assert np.median([len(set(book)) for book in codes.tolist()]) > 10
    assert encoder.encode(np.zeros(0, np.float32)).shape == (32, 0)
