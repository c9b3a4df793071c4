"""Voices' adapters on a device: what they add to a transformer's products, row by row.

Rows with an adapter run beside the captured graphs, in a batch of their own in which each has one:
what it is made of changes with every stream that comes and goes, which a graph cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, Matrix
from tts_provider.engines.csm.config import CsmConfig, TransformerConfig

Product = Literal["qkv", "out", "gate_up", "down"]
_PRODUCTS: dict[Product, tuple[Matrix, ...]] = {
    "qkv": ("q", "k", "v"),
    "out": ("o",),
    "gate_up": ("gate", "up"),
    "down": ("down",),
}


@dataclass(frozen=True)
class Halves:
    a: Tensor  # [rank, inputs]
    b: Tensor  # [outputs, rank], scale included


@dataclass(frozen=True)
class TorchAdapter:
    """What a backend loads of an adapter, by transformer, layer and matrix."""

    halves: dict[tuple[str, int, Matrix], Halves]

    @property
    def size_bytes(self) -> int:
        tensors = [tensor for halves in self.halves.values() for tensor in (halves.a, halves.b)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class RowAdapters:
    """The adapters of a batch's rows, for one transformer."""

    def __init__(
        self, adapters: Sequence[TorchAdapter], transformer: str, config: TransformerConfig
    ) -> None:
        """`adapters` has one for each row, in order."""
        heads, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        starts: dict[Matrix, int] = {"k": heads, "v": heads + keys, "up": config.mlp_width}
        self._rows = len(adapters)
        self._parts: dict[tuple[int, Product], list[tuple[int, Tensor, Tensor]]] = {}
        for number in range(config.layers):
            for product, matrices in _PRODUCTS.items():
                self._parts[number, product] = [
                    (starts.get(matrix, 0), *stacked)
                    for matrix in matrices
                    if (stacked := _stack(adapters, (transformer, number, matrix))) is not None
                ]

    def add(self, number: int, product: Product, x: Tensor, y: Tensor) -> None:
        """To y [N, outputs], what they make of the layer's inputs x [N, inputs]; a row's tokens are
        side by side."""
        rows_x, rows_y = x.unflatten(0, (self._rows, -1)), y.unflatten(0, (self._rows, -1))
        for start, a, b in self._parts[number, product]:
            added = torch.bmm(torch.bmm(rows_x, a), b)  # [rows, tokens, outputs]
            rows_y[:, :, start : start + added.shape[2]].add_(added)


class BatchAdapters:
    """The same for both transformers."""

    def __init__(self, adapters: Sequence[TorchAdapter], config: CsmConfig) -> None:
        self.adapters = list(adapters)  # as long as somebody goes by their ids
        self.backbone = RowAdapters(adapters, BACKBONE, config.backbone)
        self.depth = RowAdapters(adapters, DEPTH, config.depth)


def _stack(
    adapters: Sequence[TorchAdapter], key: tuple[str, int, Matrix]
) -> tuple[Tensor, Tensor] | None:
    """A [rows, inputs, rank] and B [rows, rank, outputs], zeros up to the largest rank and where an
    adapter leaves the matrix alone; None where all do."""
    found = [adapter.halves.get(key) for adapter in adapters]
    some = next((halves for halves in found if halves is not None), None)
    if some is None:
        return None
    rank = max(len(halves.a) for halves in found if halves is not None)
    a = some.a.new_zeros(len(found), some.a.shape[1], rank)
    b = some.b.new_zeros(len(found), rank, len(some.b))
    for row, halves in enumerate(found):
        if halves is not None:
            a[row, :, : len(halves.a)] = halves.a.t()
            b[row, : len(halves.a)] = halves.b.t()
    return a, b
