"""Random weights of CSM-1B's or of a toy's shapes, made where they are used: no file, no download,
and no package but PyTorch."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator

import numpy as np
import torch

from tts_provider.engines.csm.config import CSM_1B, CsmConfig, MimiConfig, TransformerConfig
from tts_provider.engines.csm.files.checkpoint import expected_shapes
from tts_provider.engines.csm.torch.backend import TorchBackend

# The published codec.
MIMI = MimiConfig(
    sample_rate=24000,
    channels=1,
    filters=64,
    residual_layers=1,
    ratios=(8, 6, 5, 4),
    kernel=7,
    last_kernel=3,
    residual_kernel=3,
    dilation_growth=2,
    compress=2,
    codebooks=32,
    semantic_codebooks=1,
    codebook_size=2048,
    codebook_width=256,
    quantizer_width=256,
    upsample_groups=512,
    width=512,
    layers=8,
    heads=8,
    kv_heads=8,
    head_size=64,
    mlp_width=2048,
    norm_eps=1e-5,
    rope_base=10000.0,
    window=250,
)


def configs(*, toy: bool) -> tuple[CsmConfig, MimiConfig]:
    if not toy:
        return CSM_1B, MIMI
    rope = CSM_1B.backbone.rope_scaling
    csm = dataclasses.replace(
        CSM_1B,
        backbone=TransformerConfig(2, 64, 4, 2, 16, 128, 1e-5, 500_000.0, rope),
        depth=TransformerConfig(2, 32, 4, 2, 8, 64, 1e-5, 500_000.0, rope),
        text_vocabulary=300,
        positions=512,
        audio_vocabulary=67,
    )
    mimi = dataclasses.replace(
        MIMI,
        filters=4,
        codebook_size=64,
        codebook_width=16,
        quantizer_width=16,
        upsample_groups=32,
        width=32,
        layers=2,
        heads=2,
        kv_heads=2,
        head_size=16,
        mlp_width=64,
    )
    return csm, mimi


class RandomWeights:
    """Each tensor has numbers of its own, whatever is read before it."""

    def __init__(self, config: CsmConfig, device: str) -> None:
        self._shapes, self._device = expected_shapes(config), device

    def __call__(self, name: str) -> torch.Tensor:
        shape = self._shapes[name]
        if len(shape) == 1:
            return torch.ones(shape, device=self._device)
        generator = torch.Generator("cpu").manual_seed(zlib.crc32(name.encode()))
        fan_in = shape[-2 if "codebooks_head" in name else -1]
        scale = 0.02 if "embed" in name else fan_in**-0.5
        # A block of the CPU's numbers, the same for every device, again and again: a whole table of
        # them would take a minute.
        size = math.prod(shape)
        block = torch.randn(min(size, 2**20 + 7), generator=generator).to(self._device) * scale
        return block.repeat(-(-size // len(block)))[:size].view(shape)


def codec_shapes(config: MimiConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The codec's tensors by their published names."""

    def convolution(name: str, out: int, inputs: int, taps: int, *, bias: bool = True):
        yield f"{name}.conv.weight", (out, inputs, taps)
        if bias:
            yield f"{name}.conv.bias", (out,)

    def residual(name: str, width: int):
        inner = width // config.compress
        yield from convolution(f"{name}.block.1", inner, width, config.residual_kernel)
        yield from convolution(f"{name}.block.3", width, inner, 1)

    width, index = config.filters, 1
    yield from convolution("encoder.layers.0", width, config.channels, config.kernel)
    for ratio in reversed(config.ratios):
        for _ in range(config.residual_layers):
            yield from residual(f"encoder.layers.{index}", width)
            index += 1
        yield from convolution(f"encoder.layers.{index + 1}", 2 * width, width, 2 * ratio)
        width, index = 2 * width, index + 2
    yield from convolution(f"encoder.layers.{index + 1}", config.width, width, config.last_kernel)

    index = 1
    yield from convolution("decoder.layers.0", width, config.width, config.kernel)
    for ratio in config.ratios:
        name = f"decoder.layers.{index + 1}.conv"  # transposed: inputs first
        yield f"{name}.weight", (width, width // 2, 2 * ratio)
        yield f"{name}.bias", (width // 2,)
        width, index = width // 2, index + 2
        for _ in range(config.residual_layers):
            yield from residual(f"decoder.layers.{index}", width)
            index += 1
    last = f"decoder.layers.{index + 1}"
    yield from convolution(last, config.channels, width, config.last_kernel)

    for side in ("encoder", "decoder"):
        for number in range(config.layers):
            name = f"{side}_transformer.layers.{number}"
            queries = config.heads * config.head_size
            keys = config.kv_heads * config.head_size
            yield f"{name}.self_attn.q_proj.weight", (queries, config.width)
            yield f"{name}.self_attn.k_proj.weight", (keys, config.width)
            yield f"{name}.self_attn.v_proj.weight", (keys, config.width)
            yield f"{name}.self_attn.o_proj.weight", (config.width, queries)
            yield f"{name}.mlp.fc1.weight", (config.mlp_width, config.width)
            yield f"{name}.mlp.fc2.weight", (config.width, config.mlp_width)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"{name}.{norm}.weight", (config.width,)
                yield f"{name}.{norm}.bias", (config.width,)
            yield f"{name}.self_attn_layer_scale.scale", (config.width,)
            yield f"{name}.mlp_layer_scale.scale", (config.width,)
    yield from convolution("downsample", config.width, config.width, 4, bias=False)
    groups = config.width // config.upsample_groups
    yield from convolution("upsample", config.width, groups, 4, bias=False)

    counts = {
        "semantic": config.semantic_codebooks,
        "acoustic": config.codebooks - config.semantic_codebooks,
    }
    for kind, count in counts.items():
        name = f"quantizer.{kind}_residual_vector_quantizer"
        if config.quantizer_width != config.width:
            yield f"{name}.input_proj.weight", (config.quantizer_width, config.width, 1)
            yield f"{name}.output_proj.weight", (config.width, config.quantizer_width, 1)
        for number in range(count):
            book = f"{name}.layers.{number}.codebook"
            yield f"{book}.cluster_usage", (config.codebook_size,)
            yield f"{book}.embed_sum", (config.codebook_size, config.codebook_width)


def codec_weights(config: MimiConfig) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in codec_shapes(config):
        if name.endswith(("layernorm.weight", "cluster_usage")):
            weights[name] = np.ones(shape, np.float32)
        elif name.endswith("scale.scale"):
            weights[name] = np.full(shape, 0.1, np.float32)
        elif len(shape) == 1:
            weights[name] = np.zeros(shape, np.float32)
        else:
            inputs = 1 if name.endswith("embed_sum") else math.prod(shape[1:])
            weights[name] = random.standard_normal(shape, np.float32) * inputs**-0.5
    return weights


def make_backend(
    *, toy: bool, device: str, precision: str, slots: int, **options: object
) -> TorchBackend:
    config, mimi = configs(toy=toy)
    kind = options.pop("kind", TorchBackend)
    backend: TorchBackend = kind(  # type: ignore[operator]
        config,
        RandomWeights(config, device),
        codec_weights(mimi),
        mimi,
        device=device,
        precision=precision,
        slots=slots,
        on_progress=lambda _: None,
        **options,
    )
    return backend
