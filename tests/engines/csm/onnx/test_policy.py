from __future__ import annotations

from tts_provider.engines.csm.onnx.policy import POLICIES, is_sensitive
from tts_provider.engines.csm.onnx.quantize import Blocks


def sensitive(layers: int) -> list[int]:
    return [layer for layer in range(layers) if is_sensitive(layer, layers)]


def test_the_layers_that_get_more_bits_are_llama_cpps():
    assert sensitive(16) == [0, 1, 4, 7, 10, 13, 14, 15]
    assert sensitive(28) == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert sensitive(4) == [2, 3]


def test_int4_keeps_values_and_the_backbones_down_projections_in_eight_bits():
    policy = POLICIES["int4"]
    backbone = {kind: policy.backbone.blocks(kind, 4, 16) for kind in ("qk", "v", "down")}
    assert backbone == {"qk": Blocks(4, 32), "v": Blocks(8, 128), "down": Blocks(8, 128)}
    assert policy.backbone.blocks("down", 5, 16) == Blocks(4, 32)
    depth = {kind: policy.depth.blocks(kind, 3, 4) for kind in ("qk", "v", "down")}
    assert depth == {"qk": Blocks(4, 128), "v": Blocks(8, 128), "down": Blocks(4, 128)}
    assert policy.head == Blocks(8, 128)
