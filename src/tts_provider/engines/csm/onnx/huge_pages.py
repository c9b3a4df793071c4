"""Huge pages behind the depth decoder's weights, where Linux has them.

Each of its 31 steps reads 60 MB from end to end: in pages of 4 KiB that is 15 000 addresses to look
up, in a virtual machine twice. In pages of 2 MiB a step took 5 to 9 % less: see
docs/performance-notes.md.
ONNX Runtime allocates what it packs, so huge pages are asked for afterwards.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

_HUGE = 2 * 1024 * 1024
_LEAST = 4 * _HUGE  # smaller regions hold little of the weights
_MADV_COLLAPSE = 25  # asm-generic/mman-common.h, since Linux 6.1
_PIECE = 32 * _HUGE  # the kernel holds the process's memory map meanwhile


def use_huge_pages() -> None:
    """Put huge pages behind this process's large regions of memory, as far as Linux agrees.

    It may refuse (an older kernel, huge pages switched off, memory in pieces): what it refuses
    stays as it is.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for start, end in _large_regions():
        for piece in range(start, end, _PIECE):
            size = min(_PIECE, end - piece)
            madvise(ctypes.c_void_p(piece), ctypes.c_size_t(size), _MADV_COLLAPSE)


def _large_regions() -> Iterator[tuple[int, int]]:
    """Start and end of the memory that malloc gives out, in whole huge pages."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _, _, _, *name = line.split()
        if name not in ([], ["[heap]"]) or not permissions.startswith("rw-p"):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if end - start >= _LEAST:
            yield start, end
