"""How many bits each linear layer is stored with: what `--precision` means on a CPU.

Which layers get more than the rest follows llama.cpp's Q4_K_M, which has been judged on trained
models of the backbone's very shape: values and down projections, where rounding hurts most, of the
layers that `is_sensitive` names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tts_provider.engines.csm.cpu.quantize import Blocks

Precision = Literal["float32", "int8", "int4"]
Kind = Literal["qk", "v", "o", "gate_up", "down"]
"""A linear layer's place in a transformer's layer; what reads the same input is fused."""


def is_sensitive(layer: int, layers: int) -> bool:
    """The first eighth, the last eighth, and every third layer between: `use_more_bits` of
    llama.cpp's src/llama-quant.cpp. Of 16 layers 0, 1, 4, 7, 10, 13, 14, 15; of 4 layers 2, 3."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


@dataclass(frozen=True)
class Mix:
    """A transformer's linear layers; None is float32."""

    attention: Blocks | None
    gate_up: Blocks | None
    down: Blocks | None
    sensitive_values: Blocks | None
    sensitive_down: Blocks | None
    """Of the layers that `is_sensitive` names."""

    def blocks(self, kind: Kind, layer: int, layers: int) -> Blocks | None:
        sensitive = is_sensitive(layer, layers)
        if kind == "gate_up":
            return self.gate_up
        if kind == "down":
            return self.sensitive_down if sensitive else self.down
        return self.sensitive_values if kind == "v" and sensitive else self.attention


@dataclass(frozen=True)
class Policy:
    backbone: Mix
    depth: Mix
    head: Blocks | None
    """Of the 32 heads and the projection between the two transformers."""


def _same(blocks: Blocks | None) -> Mix:
    return Mix(blocks, blocks, blocks, blocks, blocks)


_EIGHT = Blocks(8, 128)
# Blocks as small as a layer's part in the errors of trained weights asks for: docs/benchmarks.md.
# The depth decoder is read 31 times a frame: with blocks of 32 throughout, and its sensitive down
# projections in 8 bits, a frame would read 3.1 GB instead of 2.6.
_DEPTH = Mix(
    attention=Blocks(4, 32),
    gate_up=Blocks(4, 128),
    down=Blocks(4, 64),
    sensitive_values=_EIGHT,
    sensitive_down=Blocks(4, 64),
)
POLICIES: dict[Precision, Policy] = {
    "float32": Policy(_same(None), _same(None), None),
    "int8": Policy(_same(Blocks(8, 32)), _same(Blocks(8, 64)), Blocks(8, 64)),
    "int4": Policy(replace(_DEPTH, sensitive_down=_EIGHT), _DEPTH, _EIGHT),
}
