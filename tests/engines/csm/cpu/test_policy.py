from __future__ import annotations

from tts_provider.engines.csm.cpu.policy import POLICIES, is_sensitive
from tts_provider.engines.csm.cpu.quantize import Blocks


def sensitive(layers: int) -> list[int]:
    return [layer for layer in range(layers) if is_sensitive(layer, layers)]


def test_the_layers_that_get_more_bits_are_llama_cpps():
    assert sensitive(16) == [0, 1, 4, 7, 10, 13, 14, 15]
    assert sensitive(28) == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert sensitive(4) == [2, 3]


def test_int4_keeps_values_and_the_backbones_down_projections_in_eight_bits():
    policy, eight = POLICIES["int4"], Blocks(8, 128)
    kinds = ("qk", "v", "o", "gate_up", "down")
    plain = [Blocks(4, 32)] * 3 + [Blocks(4, 128), Blocks(4, 64)]
    assert [policy.backbone.blocks(kind, 5, 16) for kind in kinds] == plain
    assert [policy.depth.blocks(kind, 1, 4) for kind in kinds] == plain
    plain[1] = eight
    assert [policy.depth.blocks(kind, 3, 4) for kind in kinds] == plain
    plain[4] = eight
    assert [policy.backbone.blocks(kind, 4, 16) for kind in kinds] == plain
    assert policy.head == eight
