from __future__ import annotations

import numpy as np
import pytest

from tts_provider.engines.csm.cpu.quantize import Blocks, quantize
from tts_provider.engines.csm.onnx.graph import Graph
from tts_provider.engines.csm.onnx.language import linear


@pytest.mark.parametrize(("bits", "least"), [(8, 0.9999), (4, 0.99)])
@pytest.mark.parametrize("width", [64, 128, 2048])
def test_a_quantized_layer_is_nearly_the_layer(bits, least, width):
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
    cosine = (ours * exact).sum() / np.linalg.norm(ours) / np.linalg.norm(exact)
    assert cosine > least


def test_a_width_that_cannot_be_cut():
    with pytest.raises(ValueError, match="100 weights"):
        Blocks(4, 64).fit(100)
