"""Voices' adapters on a device: what they add to a transformer's products, row by row.

All of them lie side by side in one bank, each in as many columns as it has ranks. A row is
multiplied by all columns, and keeps what its own adapter's say: so any rows make one batch, an
adapter is in memory once however many streams speak with it, and what is read and written never
moves, as a CUDA graph wants it.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, LowRank, Matrix
from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.errors import StartupError

Product = Literal["qkv", "out", "gate_up", "down"]
_PRODUCTS: dict[Product, tuple[Matrix, ...]] = {
    "qkv": ("q", "k", "v"),
    "out": ("o",),
    "gate_up": ("gate", "up"),
    "down": ("down",),
}
NO_ADAPTER = 0
"""The number of those who have none."""
_NOBODY = -1
_COLUMNS_TOGETHER = 16
"""Banks grow by so many: products of such widths are what tensor cores compute."""

Key = tuple[str, int, Product]
"""Transformer, layer, product."""
Halves = dict[tuple[str, int, Matrix], tuple[Tensor, Tensor]]
"""By transformer, layer and matrix: A [rank, inputs] and B [rank, outputs], scale included."""


@dataclass
class TorchAdapter:
    """What a backend loads of an adapter. Its columns are given back when nobody holds it."""

    number: int
    size_bytes: int


@dataclass(frozen=True)
class _Bank:
    owners: Tensor  # int64 [columns], the adapters' numbers
    a: dict[Key, Tensor]  # [matrices · columns, inputs]
    b: dict[Key, tuple[Tensor, ...]]  # of each matrix [columns, outputs]

    @property
    def columns(self) -> int:
        return len(self.owners)


class RowAdapters:
    """The adapters of a batch's rows, for one transformer."""

    def __init__(
        self, bank: _Bank, others: Tensor, transformer: str, config: TransformerConfig
    ) -> None:
        """`others`, bool [rows, columns], are the columns that are not a row's own."""
        heads, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        self._starts: dict[Product, tuple[int, ...]] = {
            "qkv": (0, heads, heads + keys),
            "out": (0,),
            "gate_up": (0, config.mlp_width),
            "down": (0,),
        }
        self._bank, self._others, self._transformer = bank, others, transformer

    def add(self, number: int, product: Product, x: Tensor, y: Tensor) -> None:
        """To y [N, outputs], what they make of the layer's inputs x [N, inputs]; a row's tokens are
        side by side."""
        key = (self._transformer, number, product)
        starts, rows = self._starts[product], len(self._others)
        inner = F.linear(x, self._bank.a[key])  # [N, matrices · columns]
        # Set to 0, not multiplied by it: what is not finite of one adapter is nobody else's.
        inner.view(rows, -1, len(starts), self._bank.columns).masked_fill_(
            self._others[:, None, None], 0
        )
        parts = inner.chunk(len(starts), dim=1)
        for start, part, b in zip(starts, parts, self._bank.b[key], strict=True):
            y[:, start : start + b.shape[1]].addmm_(part, b)


class AdapterBank:
    """All adapters that are loaded."""

    def __init__(
        self,
        config: CsmConfig,
        columns: int,
        device: torch.device,
        dtype: torch.dtype,
        arrange: Callable[[Tensor, int], Tensor],
    ) -> None:
        """Room for so many ranks, and more when it is wanted. `arrange` puts rows of q and k, of
        heads of so many channels, as those of the layer lie."""
        self._config, self._device, self._dtype = config, device, dtype
        self._arrange = arrange
        self._changing = threading.Lock()
        self._numbers = itertools.count(NO_ADAPTER + 1)
        self._free: list[int] = []
        self.bank = self._empty(0)
        self._grow(columns)

    def copy(self, adapter: LowRank) -> Halves:
        """Its halves on the device. Raises `torch.OutOfMemoryError`, and `StartupError` where it is
        out of the type's range."""
        halves: Halves = {}
        for (transformer, number, matrix), factors in adapter.factors.items():
            a, b = torch.from_numpy(factors.a), torch.from_numpy(factors.b)
            if matrix in ("q", "k"):
                part = self._config.backbone if transformer == BACKBONE else self._config.depth
                b = self._arrange(b, part.head_size)
            a, b = a.to(self._dtype), b.t().to(self._dtype)
            if not (a.isfinite().all() and b.isfinite().all()):
                raise StartupError(
                    f"the adapter's {matrix} of layer {number} has numbers that {self._dtype} "
                    "cannot hold; use --precision float32"
                )
            halves[transformer, number, matrix] = a.to(self._device), b.to(self._device)
        return halves

    def keep(self, halves: Halves) -> TorchAdapter:
        """What was copied, in columns of its own. Raises `torch.OutOfMemoryError`."""
        rank = max(len(a) for a, _ in halves.values())
        with self._changing:
            if rank > len(self._free):
                self._grow(rank - len(self._free))
            self._free.sort()
            columns = self._free[:rank]
            # Whoever owned them speaks no more; nobody's are they until all is there.
            self.bank.owners[columns] = _NOBODY
            self._write(halves, torch.tensor(columns, device=self._device))
            rank_bytes = column_bytes(self._config, self._dtype)
            loaded = TorchAdapter(next(self._numbers), rank * rank_bytes)
            self.bank.owners[columns] = loaded.number
            del self._free[:rank]
        weakref.finalize(loaded, self._free.extend, columns).atexit = False
        return loaded

    def of(self, transformer: str, numbers: Tensor) -> RowAdapters:
        """Those of rows, by their adapters' numbers, int64 [rows], for one transformer."""
        part = self._config.backbone if transformer == BACKBONE else self._config.depth
        bank = self.bank
        return RowAdapters(bank, bank.owners != numbers[:, None], transformer, part)

    def _empty(self, columns: int) -> _Bank:
        owners = torch.full((columns,), _NOBODY, dtype=torch.int64, device=self._device)
        a: dict[Key, Tensor] = {}
        b: dict[Key, tuple[Tensor, ...]] = {}

        def zeros(rows: int, width: int) -> Tensor:
            return torch.zeros((rows, width), dtype=self._dtype, device=self._device)

        for key, inputs, outputs in _shapes(self._config):
            a[key] = zeros(len(outputs) * columns, inputs)
            b[key] = tuple(zeros(columns, width) for width in outputs)
        return _Bank(owners, a, b)

    def _grow(self, more: int) -> None:
        """A larger bank with the same in it. Steps that run go on with the one before."""
        before, had = self.bank, self.bank.columns
        columns = -(-(had + more) // _COLUMNS_TOGETHER) * _COLUMNS_TOGETHER
        bank = self._empty(columns)
        bank.owners[:had] = before.owners
        for key, parts in before.b.items():
            if had:
                matrices = (len(parts), -1, before.a[key].shape[1])
                bank.a[key].view(matrices)[:, :had] = before.a[key].view(matrices)
            for part, old in zip(bank.b[key], parts, strict=True):
                part[:had] = old
        self.bank = bank
        self._free.extend(range(had, columns))

    def _write(self, halves: Halves, columns: Tensor) -> None:
        bank, rank = self.bank, len(columns)
        for (transformer, number, product), parts in bank.b.items():
            matrices = _PRODUCTS[product]
            stacked = bank.a[transformer, number, product].view(len(matrices), bank.columns, -1)
            for matrix, to_a, to_b in zip(matrices, stacked, parts, strict=True):
                a, b = halves.get((transformer, number, matrix), (None, None))
                if a is None or b is None or len(a) < rank:  # something of another's would be left
                    to_a[columns], to_b[columns] = 0, 0
                if a is not None and b is not None:
                    own = columns[: len(a)]
                    to_a[own], to_b[own] = a, b


def column_bytes(config: CsmConfig, dtype: torch.dtype) -> int:
    """Of one rank, in every matrix that an adapter may change."""
    numbers = sum(len(outputs) * inputs + sum(outputs) for _, inputs, outputs in _shapes(config))
    return numbers * dtype.itemsize


def _shapes(config: CsmConfig) -> list[tuple[Key, int, tuple[int, ...]]]:
    """Of every product its inputs and the outputs of its matrices."""
    found: list[tuple[Key, int, tuple[int, ...]]] = []
    for transformer, part in ((BACKBONE, config.backbone), (DEPTH, config.depth)):
        heads, keys = part.heads * part.head_size, part.kv_heads * part.head_size
        of: dict[Product, tuple[int, tuple[int, ...]]] = {
            "qkv": (part.width, (heads, keys, keys)),
            "out": (heads, (part.width,)),
            "gate_up": (part.width, (part.mlp_width, part.mlp_width)),
            "down": (part.mlp_width, (part.width,)),
        }
        found += [
            ((transformer, number, product), *shape)
            for number in range(part.layers)
            for product, shape in of.items()
        ]
    return found
