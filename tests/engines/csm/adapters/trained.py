"""Adapters that peft wrote, of the language model alone: what a voice can carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from lazy_import import lazy_import
from tts_provider.engines.csm.native.library import NoKernels, open_kernels

from ..conftest import make_backend, make_torch_backend
from ..files.test_adapter import adapt, save

peft = lazy_import("peft")
torch = lazy_import("torch")

LANGUAGE = r".*(backbone_model|depth_decoder)\..*\.(q|k|v|o|gate|up|down)_proj"
DEVICES = ["torch", "int8", "int4"]
"""Who speaks with adapters that are not merged."""


def train_voice(model, folder: Path, seed: int, **options) -> peft.PeftModel:
    """Random numbers in both halves, others with another seed."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": LANGUAGE, **options}
    adapted = adapt(model, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name and "codec_model" not in name:
                parameter.normal_(0, 0.1, generator=generator)
    save(adapted, folder)
    return adapted


def make(device: str, folder: Path, cache: Path, slots: int):
    if device == "torch":
        return make_torch_backend(folder, slots=slots)
    try:
        open_kernels()
    except NoKernels as reason:
        pytest.skip(str(reason))
    return make_backend(folder, cache, device, slots=slots)
