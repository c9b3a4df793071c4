"""Is there a CUDA device that PyTorch can use, and how much fits on it."""

from __future__ import annotations

import ctypes
import math
import os
from dataclasses import dataclass
from typing import Literal

from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.files.checkpoint import expected_shapes

GIB = 2**30

# What CUDA, its libraries and the codec's activations take beside what is counted below. A guess
# with room, no measurement.
_RESERVE_BYTES = 3 * GIB // 2


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
    except ImportError:
        return "PyTorch is not installed; pip install 'tts-provider[cuda]'"
    if torch.version.cuda is None:
        return (
            f"this PyTorch ({torch.__version__}) is built without CUDA; "
            "install one with it (https://pytorch.org/get-started)"
        )
    if not has_driver():
        return "no NVIDIA driver was found; install the driver of your GPU"
    try:
        # Says more than `is_available()`, which turns every reason into False.
        torch.cuda.init()
        # A GPU that this build has no kernels for only shows when one runs.
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        # Such as "The NVIDIA driver on your system is too old (found version 11040). Please …"
        return str(error).strip().splitlines()[0].strip()
    return None


def best_precision() -> Literal["bfloat16", "float32"]:
    """bfloat16 where the GPU computes with it (Ampere and later), else float32."""
    import torch

    return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float32"


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device."""

    weights: int
    stream: int
    """Each slot's: keys and values of all positions, the codec's state, room to work."""

    def streams(self, free: int) -> int:
        """How many streams fit into `free` bytes; negative where not even the weights do."""
        room = free - self.weights - _RESERVE_BYTES
        # One more slot than streams: padding needs a place.
        return -1 if room < 0 else max(0, room // self.stream - 1)

    def describe(self, free: int) -> str:
        return (
            f"{self.weights / GIB:.1f} GiB of weights, {self.stream / 2**20:.0f} MiB a stream, "
            f"{free / GIB:.1f} GiB free"
        )


def plan_memory(
    config: CsmConfig, mimi: MimiConfig, codec_bytes: int, ring: int, item_bytes: int
) -> MemoryPlan:
    """`codec_bytes` are the codec's weights, `ring` the positions its decoder keeps."""
    shapes = expected_shapes(config)
    projected = config.audio_vocabulary * config.codebooks * config.depth.width
    numbers = sum(math.prod(shape) for shape in shapes.values()) + projected
    part = config.backbone
    layer_kv = 2 * part.kv_heads * config.positions * part.head_size
    codec_kv = mimi.layers * 2 * mimi.kv_heads * ring * mimi.head_size
    # A step gathers one layer's keys and values, and again where attention wants them otherwise.
    stream = (part.layers + 2) * layer_kv * item_bytes + codec_kv * 4
    return MemoryPlan(numbers * item_bytes + codec_bytes, stream)
