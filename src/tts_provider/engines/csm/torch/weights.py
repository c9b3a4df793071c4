"""Canonical tensors → the language model on a device: fused, cut to what the codec can say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.files.checkpoint import (
    AUDIO_EMBEDDING,
    DEPTH_EMBEDDING,
    Checkpoint,
)
from tts_provider.engines.csm.rope import rope_angles
from tts_provider.engines.csm.torch.language import Backbone, Depth, Layer, Transformer, Turn, turn
from tts_provider.engines.csm.torch.sampling import silu_gate

Read = Callable[[str], Tensor]
"""A canonical name (checkpoint.py) → its tensor, of any dtype, on any device."""

_ROWS_AT_ONCE = 8192


def reader(checkpoint: Checkpoint) -> Read:
    return lambda name: from_numpy(checkpoint.read(name))


def from_numpy(array: np.ndarray) -> Tensor:
    """A copy; numpy has no bfloat16 of its own, so its bits go over as integers."""
    array = np.array(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def load_language(
    config: CsmConfig,
    read: Read,
    *,
    codes: int,
    slots: int,
    device: torch.device,
    dtype: torch.dtype,
    gate: Callable[[Tensor], Tensor] = silu_gate,
    turn: Turn = turn,
) -> tuple[Backbone, Depth]:
    """`codes` is how many of a codebook's entries can be said: the heads know no others."""

    def get(name: str) -> Tensor:
        return read(name).to(device, dtype)

    audio = get(AUDIO_EMBEDDING).unflatten(0, (config.codebooks, -1))  # [codebooks, entries, W]
    spoken = get(DEPTH_EMBEDDING).unflatten(0, (config.codebooks, -1))  # the same where it is tied
    projection = get("depth_decoder.model.inputs_embeds_projector.weight")  # [depth W, W]
    heads = get("depth_decoder.codebooks_head.weight")[:, :, :codes]  # [codebooks - 1, depth W, …]
    backbone = Backbone(
        _transformer(get, "backbone_model", config.backbone, config.positions, device, gate, turn),
        get("embed_text_tokens.weight"),
        audio,
        slots,
    )
    depth = Depth(
        _transformer(
            get, "depth_decoder.model", config.depth, config.codebooks + 1, device, gate, turn
        ),
        _project(spoken, projection),
        projection,
        get("lm_head.weight")[:codes].contiguous(),
        heads.transpose(1, 2).contiguous(),
    )
    return backbone, depth


def _project(audio: Tensor, projection: Tensor) -> Tensor:
    """The depth decoder reads every audio embedding through the projection: folded in, once."""
    rows, matrix = audio.flatten(0, 1), projection.float().t()
    table = torch.empty(len(rows), matrix.shape[1], dtype=audio.dtype, device=audio.device)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        table[start : start + _ROWS_AT_ONCE] = rows[start : start + _ROWS_AT_ONCE].float() @ matrix
    return table.view(*audio.shape[:2], -1)  # [codebooks, entries, depth W]


def _transformer(
    get: Read,
    prefix: str,
    config: TransformerConfig,
    positions: int,
    device: torch.device,
    gate: Callable[[Tensor], Tensor],
    turn: Turn,
) -> Transformer:
    layers = []
    for number in range(config.layers):

        def weight(name: str, layer: str = f"{prefix}.layers.{number}") -> Tensor:
            return get(f"{layer}.{name}.weight")

        q, k = (pairs(weight(f"self_attn.{part}_proj"), config.head_size) for part in "qk")
        layers.append(
            Layer(
                attention_norm=weight("input_layernorm"),
                qkv=torch.cat((q, k, weight("self_attn.v_proj"))),
                out=weight("self_attn.o_proj"),
                mlp_norm=weight("post_attention_layernorm"),
                gate_up=torch.cat((weight("mlp.gate_proj"), weight("mlp.up_proj"))),
                down=weight("mlp.down_proj"),
            )
        )
    angles = torch.from_numpy(rope_angles(config, positions))
    turned = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)[:, None]
    heads, kv_heads = config.heads + config.kv_heads, config.kv_heads
    # Made whole here, [positions, H + 2 KV, head / 2]: values are turned by nothing.
    rotations = torch.cat(
        (turned.expand(-1, heads, -1), torch.ones_like(turned).expand(-1, kv_heads, -1)), dim=1
    )
    return Transformer(
        config, tuple(layers), get(f"{prefix}.norm.weight"), rotations.to(device), gate, turn
    )


def pairs(rows: Tensor, head_size: int) -> Tensor:
    """Half-split RoPE rows [heads · head, W] with the two of a pair side by side.

    A rotation is then one complex product. Queries and keys change alike: their products stay.
    """
    halves = rows.reshape(-1, 2, head_size // 2, rows.shape[1])  # [heads, half, pair, W]
    return halves.transpose(1, 2).reshape(rows.shape)
