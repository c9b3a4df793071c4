"""Keys and values of many rows. A row takes memory only as far as it is filled."""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

import numpy as np


class KeyValues:
    """Buffers [rows, …] of zeros, keys and values of every layer in turn."""

    def __init__(self, shape: tuple[int, ...], dtype: type[np.floating[Any]], count: int) -> None:
        row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        # Each buffer begins at a page of its own.
        self._row_bytes, self._stride = row, -(-shape[0] * row // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = reserve(count * self._stride)
        # With huge pages, a row would occupy whole ones for the few positions that it fills.
        with contextlib.suppress(OSError, AttributeError):
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.buffers = [
            np.ndarray(shape, dtype, self._memory, number * self._stride) for number in range(count)
        ]

    def forget(self, row: int) -> None:
        """Give the pages of a row back; if the system cannot, they stay."""
        for number in range(len(self.buffers)):
            start = number * self._stride + row * self._row_bytes
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (start + self._row_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                with contextlib.suppress(OSError, AttributeError):
                    self._memory.madvise(mmap.MADV_DONTNEED, first, last - first)


def reserve(size: int) -> mmap.mmap:
    """Zeros, which cost memory when they are written. Shared memory, the default, would be of small
    pages whatever is asked for."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
