"""Asks the operating system to save memory. If it cannot, everything still works."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_HUGE = 2 * 1024 * 1024
_LEAST = 4 * _HUGE  # smaller regions hold little of the weights
_MADV_COLLAPSE = 25  # asm-generic/mman-common.h, since Linux 6.1
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h
_LARGE_BYTES = 1024 * 1024
_MOST_ARENAS = 2
_PIECE = 32 * _HUGE  # the kernel holds the process's memory map meanwhile


def use_huge_pages() -> None:
    """Put huge pages behind this process's large regions of memory, as far as Linux agrees: for the
    depth decoder's weights, once ONNX Runtime has packed them.

    Each of its 31 steps reads 60 MB from end to end: in pages of 4 KiB that is 15 000 addresses to
    look up, in a virtual machine twice. In pages of 2 MiB a step took 5 to 9 % less: see
    docs/performance-notes.md.

    Linux may refuse (an older kernel, huge pages switched off, memory in pieces): what it refuses
    stays as it is.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for start, end in _large_regions():
        for piece in range(start, end, _PIECE):
            size = min(_PIECE, end - piece)
            madvise(ctypes.c_void_p(piece), ctypes.c_size_t(size), _MADV_COLLAPSE)


def forget_pages(arrays: Iterable[np.ndarray]) -> None:
    """Give back the memory of mapped files; what is read again comes from the file again."""
    for array in arrays:
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap) and hasattr(owner, "madvise"):  # not on Windows
            owner.madvise(mmap.MADV_DONTNEED)


def give_back_freed() -> None:
    """Give back what was freed and malloc keeps for later: 0.2 GB after CSM's graphs were built,
    and 40 MB after Kokoro's were read."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(ctypes.c_size_t(0))


def give_back_soon() -> None:
    """From now on what is freed of large buffers goes back at once, and threads share what is kept.

    glibc keeps more the larger the buffers are that it sees, for each thread by itself: a book's
    process, which has seconds of sound in its hands all the time, grew to 516 MB, and stays at 307
    so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _MOST_ARENAS)


def resident_bytes() -> int:
    """The resident memory of this process; 0 if the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * mmap.PAGESIZE


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
