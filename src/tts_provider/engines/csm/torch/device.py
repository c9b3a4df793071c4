"""Is there a CUDA device that PyTorch can use, and how much fits on it."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.files.checkpoint import expected_shapes

GIB = 2**30

OLDEST_TORCH = (2, 9)
"""Before it, normalization is seven kernels instead of one."""

# The context, kernels that are loaded when they first run, the libraries' room to work. A guess,
# with room: the trial run counts it before slots are taken.
_CONTEXT_BYTES = GIB
# What comes after the trial run: graphs, and prompts that are kept.
_LATER_BYTES = GIB
# Activations of the codec that live at the same time, at its widest place: tests count them.
_CODEC_ACTIVATIONS = 6
_CODEC_FRAMES = 256
_ENCODED_STEPS = 128
_ENCODER_TRANSFORMER_BYTES = GIB // 4


def has_driver() -> bool:
    """A look that does not need PyTorch, whose import takes seconds."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def why_no_cuda() -> str | None:
    """None where CUDA works; else one sentence: what is missing and the remedy."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            return f"PyTorch cannot be imported: {_first_line(error)}; install it anew"
        return "PyTorch is not installed; pip install 'tts-provider[cuda]'"
    except (ImportError, OSError) as error:  # of its libraries
        return f"PyTorch cannot be imported: {_first_line(error)}; install it anew"
    if torch.version.cuda is None:
        return (
            f"this PyTorch ({torch.__version__}) is built without CUDA; "
            "install one with it (https://pytorch.org/get-started)"
        )
    if _version(torch.__version__) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        return (
            f"this PyTorch ({torch.__version__}) is too old for CUDA here; install {oldest} or "
            "later, pip install -U 'tts-provider[cuda]'"
        )
    if not has_driver():
        return "no NVIDIA driver was found; install the driver of your GPU"
    try:
        # Says more than `is_available()`, which turns every reason into False.
        torch.cuda.init()
        # A GPU that this build has no kernels for only shows when one runs.
        torch.ones(1, device="cuda").add_(1).item()
    except Exception as error:  # noqa: BLE001 - what is put off until now is of every kind
        # Such as "The NVIDIA driver on your system is too old (found version 11040). Please …"
        return _first_line(error)
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def is_about_memory(reason: str) -> bool:
    """An error of CUDA's or its libraries' that is not of PyTorch's own allocator."""
    return "out of memory" in reason or "ALLOC_FAILED" in reason


def best_precision() -> Literal["bfloat16", "float32"]:
    """bfloat16 where the GPU computes with it (Ampere and later), else float32."""
    return "float32" if why_no_bfloat16() else "bfloat16"


def why_no_bfloat16() -> str | None:
    """None where the GPU computes with it; else a sentence with what to take."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    if major >= 8:
        return None
    return (
        f"--precision bfloat16 needs a GPU of compute capability 8.0 or later; this one "
        f"({torch.cuda.get_device_name()}) has {major}.{minor}: take --precision float32"
    )


def why_too_small(
    config: CsmConfig, mimi: MimiConfig, codec: Mapping[str, Shaped], precision: str
) -> str | None:
    """None where the model and a stream fit into what is free on the GPU; else a sentence."""
    import torch

    from tts_provider.engines.csm.torch.mimi import ring_positions

    item_bytes = 2 if precision == "bfloat16" else 4
    plan = plan_memory(config, mimi, codec_bytes(codec), ring_positions(mimi), item_bytes)
    return plan.why_too_little(torch.cuda.mem_get_info()[0])


class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def codec_bytes(codec: Mapping[str, Shaped]) -> int:
    """Of the codec's weights on the device, float32."""
    return 4 * sum(math.prod(tensor.shape) for tensor in codec.values())


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device."""

    weights: int
    stream: int
    """Each slot's: keys and values of all positions, the codec's state, room to work."""
    work: int
    """What the codec takes while it decodes and encodes."""
    adapters: int = 0
    """Those of voices, that the server begins with."""

    def streams(self, free: int) -> int:
        """How many streams fit into `free` bytes; negative where not even the weights do."""
        room = free - self.weights - self.adapters - self.work - _CONTEXT_BYTES - _LATER_BYTES
        # One more slot than streams: padding needs a place.
        return -1 if room < 0 else max(0, room // self.stream - 1)

    def streams_beside_all(self, free: int) -> int:
        """The same where all is loaded and has run."""
        return max(0, (free - _LATER_BYTES) // self.stream - 1)

    def why_too_little(self, free: int) -> str | None:
        """None where one stream fits; else a sentence."""
        fit = self.streams(free)
        if fit >= 1:
            return None
        what = "the model's weights do" if fit < 0 else "one stream does"
        return f"the GPU has too little memory: {what} not fit ({self.describe(free)})"

    def describe(self, free: int) -> str:
        adapters = f"{self.adapters / GIB:.1f} GiB of adapters, " if self.adapters else ""
        return (
            f"{self.weights / GIB:.1f} GiB of weights, {adapters}"
            f"{self.work / GIB:.1f} GiB to work, {self.stream / 2**20:.0f} MiB a stream, "
            f"{free / GIB:.1f} GiB free"
        )


def plan_memory(
    config: CsmConfig,
    mimi: MimiConfig,
    codec_bytes: int,
    ring: int,
    item_bytes: int,
    adapters: int = 0,
) -> MemoryPlan:
    """`codec_bytes` are the codec's weights, `ring` the positions its decoder keeps."""
    shapes = expected_shapes(config)
    projected = config.audio_vocabulary * config.codebooks * config.depth.width
    numbers = sum(math.prod(shape) for shape in shapes.values()) + projected
    part = config.backbone
    layer_kv = 2 * part.kv_heads * config.positions * part.head_size
    codec_kv = mimi.layers * 2 * mimi.kv_heads * ring * mimi.head_size
    # A step gathers one layer's keys and values, and again where attention wants them otherwise;
    # and it has noise for every code.
    noise = 4 * config.codebooks * config.audio_vocabulary
    stream = (part.layers + 2) * layer_kv * item_bytes + codec_kv * 4 + noise
    widest = 4 * _CODEC_ACTIVATIONS * mimi.filters * mimi.samples_per_step
    decoding, encoding = 2 * _CODEC_FRAMES * widest, _ENCODED_STEPS * widest
    work = decoding + encoding + _ENCODER_TRANSFORMER_BYTES
    return MemoryPlan(numbers * item_bytes + codec_bytes, stream, work, adapters)
