"""Linear layers packed into tiles, in one region of memory that may have huge pages."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tts_provider.engines.csm.cpu.kv import reserve
from tts_provider.engines.csm.native.library import Kernels, Linear
from tts_provider.engines.memory import forget_pages

Weights = Mapping[str, np.ndarray]

_HUGE_PAGE = 2 * 1024 * 1024


class Wanted(NamedTuple):
    """A linear layer and where it is stored: outputs `rows` of the layer `stored`."""

    name: str
    inputs: int
    stored: str
    rows: slice = slice(None)


class Packed:
    """Linear layers in one region of memory, of huge pages where Linux has them to give."""

    def __init__(
        self, kernels: Kernels, weights: Weights, wanted: Sequence[Wanted], threads: int
    ) -> None:
        self.layers = {want.name: _describe(want, weights) for want in wanted}
        sizes = [kernels.calls.tiles_bytes(layer) for layer in self.layers.values()]
        self.size_bytes = sum(sizes)
        self._memory = reserve(self.size_bytes + _HUGE_PAGE)
        # Some kernels have no huge pages, and macOS knows none.
        with contextlib.suppress(OSError, AttributeError):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        address = address_of(self._memory)
        address += -address % _HUGE_PAGE
        for layer, size in zip(self.layers.values(), sizes, strict=True):
            layer.tiles = address
            address += size
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda want: self._pack(kernels, weights, want), wanted))

    def _pack(self, kernels: Kernels, weights: Weights, want: Wanted) -> None:
        layer = self.layers[want.name]
        codes, scales = (weights[f"{want.stored}.{kind}"] for kind in ("codes", "scales"))
        codes = codes[want.rows]
        scales = scales.reshape(-1, codes.shape[1])[want.rows]
        assert codes.flags.c_contiguous
        assert scales.flags.c_contiguous
        kernels.calls.pack_tiles(layer, codes.ctypes.data, scales.ctypes.data, layer.tiles)
        forget_pages((codes, scales))


def _describe(want: Wanted, weights: Weights) -> Linear:
    outputs, blocks, row_bytes = weights[f"{want.stored}.codes"][want.rows].shape
    block = want.inputs // blocks
    return Linear(None, outputs, want.inputs, 8 * row_bytes // block, block)


def address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
