"""The language model's graphs: the backbone, the depth decoder, and the heads.

Both transformers have the shape of Llama: RMSNorm, grouped-query attention with RoPE, SiLU-gated
MLP, no biases. GroupQueryAttention reads and writes KV buffers in place, a length per row. Batch is
B, sequence S, width W.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.onnx.graph import MICROSOFT, Graph, Shape
from tts_provider.engines.csm.rope import rope_angles

Weights = Mapping[str, np.ndarray]


def build_backbone(config: CsmConfig, weights: Weights, positions: int) -> Graph:
    """x [B, S, W] → logits [B, codes] of code 0, and the depth decoder's first input."""
    g = Graph("backbone")
    part = config.backbone
    h = _transformer(g, "backbone_model", part, weights, positions)
    hidden = _last(g, h)
    # MatMulNBits rounds its input to integers and may lose what is not finite: NaN is added again.
    total = g.op("ReduceSum", h, g.value(np.array([1, 2])), keepdims=0)  # [B]
    nothing = g.op("Mul", total, g.value(np.float32(0)))
    nothing = g.op("Unsqueeze", nothing, g.value(np.array([1])))  # [B, 1]
    logits = g.op("Add", linear(g, weights, "head.0", hidden, part.width), nothing)
    g.output(logits, "logits", np.float32, ["B", config.audio_vocabulary])
    projected = linear(g, weights, "projection", hidden, part.width)
    g.output(projected, "projected", np.float32, ["B", config.depth.width])
    return g


def build_depth(config: CsmConfig, weights: Weights, positions: int) -> Graph:
    """x [B, S, depth W] → hidden [B, depth W] of the last position."""
    g = Graph("depth")
    h = _transformer(g, "depth_decoder.model", config.depth, weights, positions)
    g.output(_last(g, h), "hidden", np.float32, ["B", config.depth.width])
    return g


def build_head(config: CsmConfig, weights: Weights, codebook: int) -> Graph:
    """hidden [B, depth W] → logits [B, codes] of one codebook."""
    g = Graph(f"head_{codebook}")
    hidden = g.input("hidden", np.float32, ["B", config.depth.width])
    logits = linear(g, weights, f"head.{codebook}", hidden, config.depth.width)
    g.output(logits, "logits", np.float32, ["B", config.audio_vocabulary])
    return g


def bytes_a_frame(config: CsmConfig, weights: Weights) -> dict[str, int]:
    """What one frame reads of the graphs' constants, by part: the backbone once, with head 0 and
    the projection; the depth decoder for each further codebook, and that codebook's head."""
    steps = range(1, config.codebooks)
    return {
        "backbone": build_backbone(config, weights, config.positions).constant_bytes,
        "depth": len(steps) * build_depth(config, weights, config.codebooks + 1).constant_bytes,
        "heads": sum(build_head(config, weights, book).constant_bytes for book in steps),
    }


def kv_names(layers: int) -> list[tuple[str, str]]:
    """Input and output name of every KV buffer, keys and values in turn."""
    return [
        (f"past_{layer}_{kv}", f"present_{layer}_{kv}") for layer in range(layers) for kv in "kv"
    ]


def _transformer(
    g: Graph, prefix: str, config: TransformerConfig, weights: Weights, positions: int
) -> str:
    """The layers and the final norm; returns the hidden states [B, S, W]."""
    x = g.input("x", np.float32, ["B", "S", config.width])
    last = g.input("last_position", np.int32, ["B"])  # per row, past and new, minus one
    total = g.input("total_positions", np.int32, [])
    angles = rope_angles(config, positions)
    cos, sin = (turn(angles).astype(np.float32) for turn in (np.cos, np.sin))
    rope = g.constant("cos", cos), g.constant("sin", sin)  # [positions, head_size / 2]
    kv_shape: Shape = ["B", config.kv_heads, positions, config.head_size]

    delta = ""
    for number in range(config.layers):
        layer = f"{prefix}.layers.{number}"
        h, x = _norm(g, weights, f"{layer}.input_layernorm", x, delta, config.norm_eps)
        qkv = _qkv(g, weights, layer, h, config.width)
        past = [g.input(f"past_{number}_{kv}", np.float32, kv_shape) for kv in "kv"]
        attended, *present = g.ops(
            "GroupQueryAttention",
            *(qkv, "", "", *past, last, total, *rope),
            outputs=3,
            domain=MICROSOFT,
            num_heads=config.heads,
            kv_num_heads=config.kv_heads,
            do_rotary=1,
        )
        for kv, value in zip("kv", present, strict=True):
            g.rename_output(value, f"present_{number}_{kv}", np.float32, kv_shape)
        delta = linear(g, weights, f"{layer}.o", attended, config.heads * config.head_size)
        h, x = _norm(g, weights, f"{layer}.post_attention_layernorm", x, delta, config.norm_eps)
        gate_up = linear(g, weights, f"{layer}.gate_up", h, config.width)
        gate, up = g.ops("Split", gate_up, outputs=2, axis=-1, num_outputs=2)
        silu = g.op("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # x · sigmoid(x)
        delta = linear(g, weights, f"{layer}.down", g.op("Mul", silu, up), config.mlp_width)
    h, _ = _norm(g, weights, f"{prefix}.norm", x, delta, config.norm_eps)
    return h


def _last(g: Graph, h: str) -> str:
    """h [B, S, W] → the last position's [B, W]."""
    return g.op("Gather", h, g.value(np.int64(-1)), axis=1)


def _qkv(g: Graph, weights: Weights, layer: str, h: str, width: int) -> str:
    """Queries, keys and values side by side, [B, S, (H + 2 KV) · head]."""
    if f"{layer}.v.codes" not in weights:
        return linear(g, weights, f"{layer}.qkv", h, width)
    parts = [linear(g, weights, f"{layer}.{part}", h, width) for part in ("qk", "v")]
    return g.op("Concat", *parts, axis=-1)


def _norm(g: Graph, weights: Weights, name: str, x: str, delta: str, eps: float) -> tuple[str, str]:
    """RMSNorm of x + delta, and that sum."""
    scale = g.constant(name, weights[name])
    if not delta:
        return g.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=eps), x
    h, _, _, total = g.ops(
        "SkipSimplifiedLayerNormalization",
        *(x, delta, scale),
        outputs=4,
        domain=MICROSOFT,
        epsilon=eps,
    )
    return h, total


def linear(g: Graph, weights: Weights, name: str, x: str, width: int) -> str:
    """x [..., width] through the layer `name`, however it is stored."""
    if f"{name}.weight" in weights:
        return g.op("MatMul", x, g.constant(name, weights[f"{name}.weight"]))
    codes, scales = weights[f"{name}.codes"], weights[f"{name}.scales"]
    size = width // codes.shape[1]
    return g.op(
        "MatMulNBits",
        x,
        g.constant(f"{name}.codes", codes),
        g.constant(f"{name}.scales", scales),
        domain=MICROSOFT,
        K=width,
        N=len(codes),
        bits=8 * codes.shape[2] // size,
        block_size=size,
        accuracy_level=4,  # activations in int8: the fast kernels
    )
