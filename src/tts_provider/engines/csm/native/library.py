"""The compiled kernels, and their structures: linear.h and transformer.c say what they mean."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
LANES, WIDEST_HEAD, MOST_RANK = 16, 256, 256

# Fastest first: what the compiler was allowed to use, as the system names it.
_AVX2 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"])
_AVX512 = frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"])
_NEON = frozenset(["asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "fphp"])
_BUILDS = {
    "x86-64": {
        "avx512vnni": _AVX2 | _AVX512,
        "avxvnni": _AVX2 | {"avx_vnni"},
        "avx2": _AVX2,
    },
    "ARM64": {"i8mm": _NEON | {"i8mm"}, "neon": _NEON},
}
_MACHINES = {"x86_64": "x86-64", "aarch64": "ARM64", "arm64": "ARM64"}
_SUFFIXES = {"linux": ".so", "darwin": ".dylib"}
# How a library for each begins: ELF and its e_machine, Mach-O and its processor.
_ELF_MACHINES = {"x86-64": b"\x3e\0", "ARM64": b"\xb7\0"}
_MACH_O = b"\xcf\xfa\xed\xfe\x0c\0\0\1"
# /proc/cpuinfo's names, and macOS's of the same.
_APPLE_FLAGS = {
    "asimddp": "FEAT_DotProd",
    "asimdhp": "FEAT_FP16",
    "asimdrdm": "FEAT_RDM",
    "atomics": "FEAT_LSE",
    "fphp": "FEAT_FP16",
    "i8mm": "FEAT_I8MM",
}


class NoKernels(Exception):
    """The kernels do not run here; the sentence says why."""


class Linear(ctypes.Structure):
    _fields_ = (
        ("tiles", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("outputs", "inputs", "bits", "block")),
    )


class Layer(ctypes.Structure):
    _fields_ = (
        *((name, Linear) for name in ("query_key", "value", "output", "gate", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "keys", "values")),
    )


class Transformer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("layers", "width", "heads", "kv_heads")),
        *((name, ctypes.c_int32) for name in ("head_size", "mlp_width", "positions")),
        ("norm_eps", ctypes.c_float),
        ("layer", ctypes.POINTER(Layer)),
        *((name, ctypes.c_void_p) for name in ("norm", "cos", "sin")),
    )


class Output(ctypes.Structure):
    _fields_ = (("layer", Linear), ("out", ctypes.c_void_p))


class LowRank(ctypes.Structure):
    _fields_ = (("down", Linear), ("up", Linear))


class LayerAdapter(ctypes.Structure):
    _fields_ = tuple(
        (name, LowRank) for name in ("query", "key", "value", "output", "gate", "up", "down")
    )


class Step(ctypes.Structure):
    _fields_ = (
        ("transformer", ctypes.POINTER(Transformer)),
        *((name, ctypes.c_void_p) for name in ("x", "rows", "lengths")),
        ("output", ctypes.POINTER(Output)),
        ("adapters", ctypes.POINTER(ctypes.c_void_p)),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("batch", "sequence", "outputs")),
    )


class Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.POINTER(Transformer)) for name in ("backbone", "depth")),
        ("projection", Linear),
        ("heads", ctypes.POINTER(Linear)),
        *((name, ctypes.c_void_p) for name in ("audio_table", "depth_table")),
        *((name, ctypes.c_int32) for name in ("codebooks", "vocabulary")),
    )


class Sampling(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_uint64),
        ("frame", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("temperature", "depth_temperature")),
        *((name, ctypes.c_int32) for name in ("top_k", "depth_top_k")),
    )


class Frame(ctypes.Structure):
    _fields_ = (
        ("model", ctypes.POINTER(Model)),
        *((name, ctypes.c_void_p) for name in ("rows", "lengths", "read")),
        ("sampling", ctypes.POINTER(Sampling)),
        *((name, ctypes.c_void_p) for name in ("logits", "projected")),
        ("backbone_adapters", ctypes.POINTER(ctypes.c_void_p)),
        ("depth_adapters", ctypes.POINTER(ctypes.c_void_p)),
        *((name, ctypes.c_void_p) for name in ("codes", "workspace")),
        *((name, ctypes.c_int32) for name in ("batch", "reading", "choices")),
    )


# language.c's `describe`.
_STRUCTURES = (Linear, Layer, Transformer, Output, LayerAdapter, Step, Model, Sampling, Frame)
_SIZES = [LANES, WIDEST_HEAD, MOST_RANK, *map(ctypes.sizeof, _STRUCTURES)]

_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "describe": (None, (ctypes.c_void_p,)),
    "thread_pool_start": (ctypes.c_void_p, (ctypes.c_int,)),
    "thread_pool_stop": (None, (ctypes.c_void_p,)),
    "tiles_bytes": (ctypes.c_size_t, (Linear,)),
    "pack_tiles": (None, (Linear, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
    "workspace_bytes": (
        ctypes.c_size_t,
        (ctypes.POINTER(Transformer), ctypes.c_int, ctypes.c_int),
    ),
    "transformer_run": (None, (ctypes.c_void_p, ctypes.POINTER(Step))),
    "frame_bytes": (ctypes.c_size_t, (ctypes.POINTER(Model), ctypes.c_int, ctypes.c_int)),
    "frame_run": (None, (ctypes.c_void_p, ctypes.POINTER(Frame))),
}


@dataclass(frozen=True)
class Kernels:
    """A loaded library; `calls` has its functions, typed."""

    name: str
    calls: ctypes.CDLL
    reason: str
    """Why this one, for the log."""


def open_kernels(name: str | None = None) -> Kernels:
    """The fastest build for this processor that can be loaded, or the one called `name`.

    Raises `NoKernels` where there is none.
    """
    machine, suffix = _MACHINES.get(platform.machine()), _SUFFIXES.get(sys.platform)
    if machine is None or suffix is None or (machine == "x86-64" and sys.platform == "darwin"):
        raise NoKernels("the CPU kernels are for Linux on x86-64 and ARM64, and for macOS on ARM64")
    builds, flags = _BUILDS[machine], _processor_flags()
    runnable = [build for build, needed in builds.items() if needed <= flags]
    if not runnable:
        least = "AVX2" if machine == "x86-64" else "dot products (ARMv8.2)"
        raise NoKernels(f"the CPU kernels need a processor with {least}, as the system tells it")
    if name is not None and name not in runnable:
        raise NoKernels(f"this processor does not run the kernels for {name}")
    reasons: list[str] = []
    for build in runnable if name is None else [name]:
        try:
            calls = _load(FOLDER / f"kernels-{build}{suffix}")
        except NoKernels as reason:
            reasons.append(str(reason))
        else:
            fastest = "the fastest that this processor runs"
            return Kernels(build, calls, "; ".join(reasons) or fastest)
    raise NoKernels("; ".join(reasons))


def _load(path: Path) -> ctypes.CDLL:
    """Raises `NoKernels` where it is not what was built, or not what this module knows.

    A library that was cut short ends the process when it is loaded or used (SIGBUS), so it is
    checked before.
    """
    try:
        _check(path.read_bytes())
        return _open(path)
    except FileNotFoundError:
        raise NoKernels(
            f"{path} is not there; install tts-provider again, with kernels, to build it"
        ) from None
    except (OSError, AttributeError, ValueError) as error:
        raise NoKernels(
            f"{path} cannot be loaded ({error}); install tts-provider again to build it"
        ) from None


def _check(data: bytes) -> None:
    """Raises `ValueError` where a library's bytes are not those that hatch_build.py's `seal` made,
    or are not for this machine."""
    size = hashlib.sha256().digest_size
    if hashlib.sha256(data[:-size]).digest() != data[-size:]:
        raise ValueError(f"it is damaged: the digest at the end of its {len(data)} bytes is wrong")
    # What the loader says of another machine's library is that there is no such file.
    machine = _MACHINES[platform.machine()]
    is_elf = data[:5] == b"\x7fELF\2" and data[18:20] == _ELF_MACHINES[machine]
    if not (is_elf if sys.platform == "linux" else data.startswith(_MACH_O)):
        raise ValueError(f"it is no library for {machine}")


def _open(path: Path) -> ctypes.CDLL:
    """Raises `OSError`, `AttributeError` or `ValueError` where it is not what this module knows."""
    calls = ctypes.CDLL(str(path))
    for function, (result, arguments) in _SIGNATURES.items():
        call = getattr(calls, function)
        call.restype, call.argtypes = result, arguments
    sizes = (ctypes.c_int32 * len(_SIZES))()
    calls.describe(sizes)
    if list(sizes) != _SIZES:
        raise ValueError("it was built from other sources")
    return calls


def _processor_flags() -> frozenset[str]:
    if sys.platform == "darwin":
        return frozenset({"asimd"} | {name for name, mac in _APPLE_FLAGS.items() if _has(mac)})
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    names = (line.partition(":") for line in lines)
    flags = (rest for name, _, rest in names if name.strip() in ("flags", "Features"))
    return frozenset(next(flags, "").split())


def _has(feature: str) -> bool:
    """Whether macOS says that the processor has it."""
    found, size = ctypes.c_int32(0), ctypes.c_size_t(4)
    name = f"hw.optional.arm.{feature}".encode()
    failed = ctypes.CDLL(None).sysctlbyname(
        name, ctypes.byref(found), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return not failed and found.value == 1
