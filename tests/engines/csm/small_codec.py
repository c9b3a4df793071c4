"""A Mimi of two narrow layers for tests: transformers' model, the oracle, and what ours reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lazy_import import lazy_import
from tts_provider.engines.csm.config import MimiConfig, read_mimi_config

torch = lazy_import("torch")
transformers = lazy_import("transformers")


def make_small_mimi(seed: int, **changes: int) -> transformers.MimiModel:
    """Published ratios, kernels, window and codebooks; everything else small.

    All weights are random, those that a new model has at zero or one included, and large enough
    that every layer is heard in the output.
    """
    config = transformers.MimiConfig(
        **{
            "num_filters": 8,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 16,
            "intermediate_size": 128,
            "upsample_groups": 64,
            "codebook_size": 64,
            "codebook_dim": 32,
            "vector_quantization_hidden_dimension": 32,
            **changes,
        }
    )
    model = transformers.MimiModel(config).eval()
    random = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size, size: float, middle: float = 0.0) -> torch.Tensor:
        return middle + size * torch.randn(shape, generator=random)

    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("cluster_usage"):
                tensor.copy_(1 + 3 * torch.rand(tensor.shape, generator=random))
                tensor[0] = 0  # an entry never used
            elif name.endswith("embed_sum"):
                tensor.copy_(normal(tensor.shape, 1.0))
                tensor[0] *= 1e-5
            elif "layernorm" in name or name.endswith("_scale.scale"):
                tensor.copy_(normal(tensor.shape, 0.2, 0.0 if name.endswith("bias") else 1.0))
            elif name.endswith("bias"):
                tensor.copy_(normal(tensor.shape, 0.1))
            elif tensor.dim() >= 2:
                inputs = tensor[0].numel()
                if "upsample" in name:
                    inputs = 1
                elif "decoder_seanet" in name and tensor.shape[0] == 2 * tensor.shape[1]:
                    inputs = 2 * tensor.shape[0]  # transposed: [in, out, 2 * stride]
                tensor.copy_(normal(tensor.shape, inputs**-0.5))
    return model


def mimi_config_of(model: transformers.MimiModel) -> MimiConfig:
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return read_mimi_config(Path(folder) / "config.json")


def mimi_weights_of(model: transformers.MimiModel) -> dict[str, np.ndarray]:
    """By their published names, which transformers 5 has only in the files it writes."""
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")
