"""Which kernels the tests run: those of this processor, and, slowly, those of others, under QEMU,
and those with sanitizers, each in a process of its own (driver.py)."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tts_provider.engines.csm.native.library import Kernels, NoKernels, open_kernels

from .driver import DriverCalls, compile_driver

HERE = ("avx2", "avxvnni", "avx512vnni")
_ARM = ["-target", "aarch64-linux-musl", "-static", "-mcpu=generic+v8_2a+dotprod+fullfp16"]
_AVX2 = "-march=x86-64-v3"
# A compiler's flags, and what runs the program.
ELSEWHERE: dict[str, tuple[list[str], list[str]]] = {
    "neon": (_ARM, ["qemu-aarch64", "-cpu", "max"]),
    "i8mm": ([*_ARM[:-1], f"{_ARM[-1]}+i8mm"], ["qemu-aarch64", "-cpu", "max"]),
    "address": (["-fsanitize=address", "-fno-omit-frame-pointer", _AVX2], []),
    "undefined": (["-fsanitize=undefined", "-fno-sanitize-recover=all", _AVX2], []),
    "thread": (["-fsanitize=thread", _AVX2], []),
}
_SLOW = pytest.mark.slow("seconds each under QEMU or a sanitizer: other processors, and races")
SLOW_ELSEWHERE = [pytest.param(name, marks=_SLOW) for name in ELSEWHERE]


@pytest.fixture(scope="session")
def kernels_for() -> Iterator[functools._lru_cache_wrapper[Kernels]]:
    """Kernels by name, one of `HERE` or of `ELSEWHERE`; None is the fastest of this processor."""
    with tempfile.TemporaryDirectory() as folder:

        @functools.cache
        def kernels_for(name: str | None) -> Kernels:
            try:
                if name not in ELSEWHERE:
                    return open_kernels(name)
                return _compile(name, Path(folder), open_kernels("avx2"))
            except NoKernels as reason:
                pytest.skip(str(reason))

        yield kernels_for
        codes = [calls.close() for calls in _running]
        _running.clear()
        assert not any(codes), "a sanitizer says why"


_running: list[DriverCalls] = []


def _compile(name: str, folder: Path, ours: Kernels) -> Kernels:
    flags, run = ELSEWHERE[name]
    compiler: list[str] = []
    if not run:
        # Earlier ones have no _Float16 on x86-64.
        found = (shutil.which(f"clang-{number}") for number in range(30, 14, -1))
        if (clang := next(filter(None, found), None)) is None:
            pytest.skip("needs clang for sanitizers; on Debian: apt install clang-19")
        compiler = [clang, "-Wno-psabi"]
    elif shutil.which(run[0]) is None:
        pytest.skip("needs qemu-aarch64; on Debian and Ubuntu: apt install qemu-user")
    elif importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs ziglang, of requirements-test.txt")
    program = compile_driver(folder / name, *flags, compiler=compiler)
    calls = DriverCalls([*run, str(program)], ours.calls)
    _running.append(calls)
    calls.check_sizes()
    return Kernels(name, calls, "")


@pytest.fixture(scope="module", params=[None, *SLOW_ELSEWHERE])
def elsewhere(request) -> str | None:
    """Where what is not called avx2 runs."""
    return request.param
