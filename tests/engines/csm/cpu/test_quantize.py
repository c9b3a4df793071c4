from __future__ import annotations

import numpy as np
import pytest

from tts_provider.engines.csm.cpu.quantize import Blocks, quantize
from tts_provider.engines.csm.cpu.weights import load_weights
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.onnx.graph import Graph
from tts_provider.engines.csm.onnx.language import linear

# Relative: half a step of 8 bits, with activations in 8 bits too, and of 4 bits with their shrunken
# scales. A scale that is 10 % off is beyond both; a cosine would not see it.
MOST = {8: 0.012, 4: 0.12}


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def dequantize(codes: np.ndarray, scales: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """The weights, (rows, width), and their bits; `codes` and `scales` are as they are stored."""
    rows, blocks, size_bytes = codes.shape
    bits = size_bytes * 8 * blocks // width
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    codes = codes.reshape(rows, blocks, -1).astype(np.float32) - (1 << (bits - 1))
    return (codes * scales.reshape(rows, blocks, 1)).reshape(rows, width), bits


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("width", [64, 128, 2048])
def test_a_quantized_layer_is_nearly_the_layer(bits, width):
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.02, (96, width)).astype(np.float32)
    weights[3] = 0
    codes, scales = quantize(weights, Blocks(bits, 64).fit(width))
    g = Graph("test")
    x = g.input("x", np.float32, ["B", width])
    stored = {"layer.codes": codes, "layer.scales": scales}
    g.output(linear(g, stored, "layer", x, width), "y", np.float32, ["B", 96])
    values = random.normal(0, 1, (5, width)).astype(np.float32)
    (ours,) = g.session(2).run(None, {"x": values})
    exact = values @ weights.T
    assert np.abs(ours[:, 3]).max() == 0
    assert error(ours, exact) < MOST[bits]
    stored, stored_bits = dequantize(codes, scales, width)
    assert stored_bits == bits
    assert error(stored, weights) < MOST[bits]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_layer_that_is_prepared_is_nearly_the_layer(small_folder, tmp_path, precision):
    checkpoint = open_checkpoint(small_folder)
    exact = load_weights(checkpoint, "float32", tmp_path, print)
    found = load_weights(checkpoint, precision, tmp_path, print)
    names = [name.removesuffix(".codes") for name in found if name.endswith(".codes")]
    assert len(names) > checkpoint.config.codebooks
    for name in names:
        layer, _, part = name.rpartition(".")
        rows = len(found[f"{name}.codes"])
        if part in ("qk", "v") and f"{layer}.qkv.weight" in exact:  # of more bits than q and k
            whole = exact[f"{layer}.qkv.weight"].T
            weights = whole[:rows] if part == "qk" else whole[-rows:]
        else:
            weights = exact[f"{name}.weight"].T
        stored, bits = dequantize(found[f"{name}.codes"], found[f"{name}.scales"], weights.shape[1])
        assert error(stored, weights) < MOST[bits], name


def test_a_width_that_cannot_be_cut():
    with pytest.raises(ValueError, match="100 weights"):
        Blocks(4, 64).fit(100)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_too_small_for_a_scale_are_nothing(bits):
    weights = np.full((2, 32), 1e-40, np.float32)
    codes, scales = quantize(weights, Blocks(bits, 32))
    assert np.isfinite(scales).all()
    middle = 1 << (bits - 1)
    assert (codes == (middle if bits == 8 else middle | middle << 4)).all()
