from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from tts_provider.engines.memory import use_huge_pages


def huge_kb_behind(array: np.ndarray) -> int:
    """Of the region that the array's middle lies in."""
    middle, inside = array.ctypes.data + array.nbytes // 2, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            inside = start <= middle < end
        elif inside and line.startswith("AnonHugePages:"):
            return int(line.split()[1])
    raise AssertionError("the array is in no region")


def collapses() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if sys.platform != "linux" or not setting.is_file() or "[never]" in setting.read_text():
        return False
    release = Path("/proc/sys/kernel/osrelease").read_text().split(".")
    return (int(release[0]), int(release[1])) >= (6, 1)


@pytest.mark.skipif(not collapses(), reason="needs Linux 6.1 with huge pages")
def test_memory_keeps_its_bytes_and_gets_huge_pages():
    # Not numpy's own memory, which asks for huge pages by itself.
    memory = mmap.mmap(-1, 96 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    values = np.frombuffer(memory, np.uint8)
    values[:] = np.random.default_rng(0).integers(0, 256, len(values), np.uint8)
    total = int(values.sum())
    assert huge_kb_behind(values) == 0
    use_huge_pages()
    assert huge_kb_behind(values) > 32 << 10
    assert int(values.sum()) == total


def test_empty_memory_stays_empty():
    """Buffers for streams that nobody speaks in take addresses, no memory."""
    empty = np.zeros(256 << 20, np.uint8)
    use_huge_pages()
    if sys.platform == "linux":
        assert huge_kb_behind(empty) < 32 << 10
