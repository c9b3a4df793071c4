"""A voice's adapter for the kernels: 8 bits a weight, packed as the layers beside which it stands.

A layer reads its own input and what `down` made of it: no copy of the model is needed, and in the
depth decoder, which a frame reads 31 times, the halves of rank 32 are a fifteenth of its bytes.
"""

from __future__ import annotations

import ctypes

import numpy as np

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, Factors, LowRank, Matrix
from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.cpu.quantize import Blocks, quantize
from tts_provider.engines.csm.native.library import LANES, Kernels, LayerAdapter
from tts_provider.engines.csm.native.packed import Packed, Wanted

_DOWN, _UP = Blocks(8, 64), Blocks(8, 32)
_NAMES: dict[Matrix, str] = {"q": "query", "k": "key", "v": "value", "o": "output"}


class NativeAdapter:
    """`backbone` and `depth` have a structure for each layer; their memory lives as long as this.
    Nothing of `adapter` is kept."""

    def __init__(self, kernels: Kernels, config: CsmConfig, adapter: LowRank) -> None:
        stored: dict[str, np.ndarray] = {}
        wanted: list[Wanted] = []
        for (transformer, number, matrix), factors in adapter.factors.items():
            for half, rows, blocks in _halves(factors):
                name = f"{transformer}.{number}.{matrix}.{half}"
                codes, scales = quantize(rows, blocks.fit(rows.shape[1]))
                stored |= {f"{name}.codes": codes, f"{name}.scales": scales}
                wanted.append(Wanted(name, rows.shape[1], name))
        self._packed = Packed(kernels, stored, wanted, threads=1)
        self.size_bytes = self._packed.size_bytes
        self.backbone = self._layers(BACKBONE, config.backbone, adapter)
        self.depth = self._layers(DEPTH, config.depth, adapter)

    def _layers(
        self, transformer: str, part: TransformerConfig, adapter: LowRank
    ) -> ctypes.Array[LayerAdapter]:
        layers = (LayerAdapter * part.layers)()
        for number, layer in enumerate(layers):
            for matrix in adapter.layer(transformer, number):
                low_rank = getattr(layer, _NAMES.get(matrix, matrix))
                for half in ("down", "up"):
                    name = f"{transformer}.{number}.{matrix}.{half}"
                    setattr(low_rank, half, self._packed.layers[name])
        return layers


def _halves(factors: Factors) -> list[tuple[str, np.ndarray, Blocks]]:
    """A and B with the rank filled up with zeros to whole vectors."""
    missing = -len(factors.a) % LANES
    down = np.pad(factors.a, ((0, missing), (0, 0)))
    up = np.pad(factors.b, ((0, 0), (0, missing)))
    return [("down", down, _DOWN), ("up", up, _UP)]
