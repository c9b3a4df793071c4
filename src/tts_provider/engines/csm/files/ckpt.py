"""`ckpt.pt`, the oldest layout: a PyTorch pickle, read by the restricted unpickler only."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from tts_provider.errors import StartupError


def read_ckpt(path: Path) -> dict[str, np.ndarray]:
    """Names → float32 arrays. Raises `StartupError` if the file holds anything but tensors."""
    try:
        import torch
    except ImportError:
        raise StartupError(
            f"{path} is a PyTorch file: pip install torch to read it, or download the "
            "safetensors files of the model instead"
        ) from None
    try:
        body = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise StartupError(
            f"{path} is damaged or holds more than tensors, so it is not read "
            f"({str(error).splitlines()[0][:120]}); download it again"
        ) from None
    if not isinstance(body, dict) or not all(isinstance(v, torch.Tensor) for v in body.values()):
        raise StartupError(f"{path} holds no tensors by name; is it another model?")
    return {str(name): tensor.float().numpy() for name, tensor in body.items()}
