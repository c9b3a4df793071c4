"""Mimi's decoder and encoder as ONNX graphs.

Every activation is `[rows, positions, channels]`. A convolution is then one matrix product over its
taps side by side, for all rows at once, and needs only the few positions before its input, its
tail. With kernels of twice the stride, as Mimi has them, the strided and the transposed ones are
convolutions of two taps as well, over blocks of `stride` positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tts_provider.engines.csm.config import MimiConfig
from tts_provider.engines.csm.onnx.graph import MICROSOFT, Graph

Weights = Mapping[str, np.ndarray]

# Below this a codebook entry was never used in training (transformers' MimiEuclideanCodebook).
_USAGE_EPS = 1e-5

_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class DecoderGraph:
    """Inputs `codes` `[rows, codebooks, frames]`, those of `_Attention`, and the state; output
    `pcm` `[rows, samples]`."""

    graph: Graph
    tails: dict[str, tuple[int, int]]
    """Shape a row of each convolution's tail: input `name`, afterwards output `name.next`. Zeros
    before the start of a stream."""
    caches: list[tuple[str, str]]
    """Names of each layer's keys `[rows, kv_heads, head, window]` and values
    `[rows, kv_heads, window, head]`; outputs `name.new` `[rows, positions, kv_heads, head]`."""


def decoder_graph(config: MimiConfig, weights: Weights) -> DecoderGraph:
    """The streaming decoder: codes and state in, samples and what the state gains out."""
    g = Graph("mimi_decoder")
    convs = _Convolutions(g, weights, streaming=True)
    attention = _Attention(g, config, cached=True)

    codes = g.input("codes", np.int64, ["rows", config.codebooks, "frames"])
    x = _embed_codes(g, config, weights, codes)  # [rows, frames, 2 * codebook_width]
    x = convs.apply(x, "upsample", _upsampling(config, weights), None, taps=2)
    x = g.op("Reshape", x, g.ints(0, -1, config.width))  # [rows, positions, width]

    x = _transformer(g, x, "decoder_transformer", config, weights, attention)

    x = convs.causal(x, "decoder.layers.0")  # [rows, positions, filters * 2 ** ratios]
    index = 1
    for ratio in config.ratios:
        x = convs.transposed(_elu(g, x), f"decoder.layers.{index + 1}", ratio)
        index += 2
        for number in range(config.residual_layers):
            x = convs.residual(x, f"decoder.layers.{index}", config.dilation_growth**number)
            index += 1
    x = convs.causal(_elu(g, x), f"decoder.layers.{index + 1}")  # [rows, samples, 1]
    g.output(g.op("Reshape", x, g.ints(0, -1)), "pcm", np.float32, ["rows", "samples"])
    return DecoderGraph(g, convs.tails, attention.caches)


def encoder_graph(config: MimiConfig, weights: Weights) -> Graph:
    """The whole-signal encoder: `samples` `[1, samples, 1]` to `codes` `[codebooks, frames]`."""
    g = Graph("mimi_encoder")
    convs = _Convolutions(g, weights, streaming=False)
    attention = _Attention(g, config, cached=False)

    x = g.input("samples", np.float32, [1, "samples", 1])
    x = convs.causal(x, "encoder.layers.0")  # [1, samples, filters]
    index = 1
    for ratio in reversed(config.ratios):
        for number in range(config.residual_layers):
            x = convs.residual(x, f"encoder.layers.{index}", config.dilation_growth**number)
            index += 1
        x = convs.strided(_elu(g, x), f"encoder.layers.{index + 1}", ratio)
        index += 2
    x = convs.causal(_elu(g, x), f"encoder.layers.{index + 1}")  # [1, positions, width]

    x = _transformer(g, x, "encoder_transformer", config, weights, attention)

    x = convs.strided(x, "downsample", 2, repeat_edges=True)  # [1, frames, width]
    codes = _nearest_codes(g, config, weights, g.op("Squeeze", x, g.ints(0)))
    g.output(codes, "codes", np.int64, [config.codebooks, "frames"])
    return g


# --- Convolutions


class _Convolutions:
    """Causal convolutions, their left context carried from call to call or zeros."""

    def __init__(self, g: Graph, weights: Weights, *, streaming: bool) -> None:
        self._g, self._weights, self._streaming = g, weights, streaming
        self.tails: dict[str, tuple[int, int]] = {}

    def causal(self, x: str, name: str, dilation: int = 1) -> str:
        weight, bias = self._read(name)  # [out, in, taps]
        matrix = weight.transpose(2, 1, 0).reshape(-1, len(weight))
        return self.apply(x, name, matrix, bias, taps=weight.shape[2], dilation=dilation)

    def residual(self, x: str, name: str, dilation: int) -> str:
        """A wide convolution to fewer channels and a narrow one back, added to the input."""
        inner = self.causal(_elu(self._g, x), f"{name}.block.1", dilation)
        return self._g.op("Add", x, self.causal(_elu(self._g, inner), f"{name}.block.3"))

    def transposed(self, x: str, name: str, stride: int) -> str:
        """`stride` positions out for each position in."""
        weight, bias = self._read(name)  # [in, out, 2 * stride]
        width = weight.shape[1]
        assert bias is not None
        x = self.apply(x, name, _transposed_matrix(weight), np.tile(bias, stride), taps=2)
        return self._g.op("Reshape", x, self._g.ints(0, -1, width))

    def strided(self, x: str, name: str, stride: int, *, repeat_edges: bool = False) -> str:
        """One position out for each `stride` in, the last ones filled up with zeros or, as all
        of the left context, with the edge's value."""
        g = self._g
        weight, bias = self._read(name)  # [out, in, 2 * stride]
        matrix = weight.transpose(2, 1, 0).reshape(-1, len(weight))
        positions = g.op("Shape", x, start=1, end=2)
        missing = g.op("Mod", g.op("Neg", positions), g.ints(stride))
        before = g.ints(0, stride if repeat_edges else 0, 0, 0)
        pads = g.op("Concat", before, missing, g.ints(0), axis=0)
        x = g.op("Pad", x, pads, mode="edge" if repeat_edges else "constant")
        x = g.op("Reshape", x, g.ints(0, -1, stride * weight.shape[1]))
        return self.apply(x, name, matrix, bias, taps=2, padded=repeat_edges)

    def apply(
        self,
        x: str,
        name: str,
        matrix: np.ndarray,
        bias: np.ndarray | None,
        *,
        taps: int,
        dilation: int = 1,
        padded: bool = False,
    ) -> str:
        """`matrix` `[taps * in, out]`, the oldest tap first, over `x` `[rows, positions, in]`."""
        g, before = self._g, (taps - 1) * dilation
        inputs, outputs = len(matrix) // taps, matrix.shape[1]
        if before and not padded:
            x = self._after_tail(x, name, before, inputs)
        if outputs < inputs and taps > 1:
            # Narrower out than in: cheaper to part the taps' products than to join their inputs.
            parted = matrix.reshape(taps, inputs, outputs).transpose(1, 0, 2).reshape(inputs, -1)
            products = g.op("MatMul", x, g.constant(f"{name}.matrix", parted))
            x = self._tap(products, 0, before, (0, outputs))
            for i in range(1, taps):
                channels = (i * outputs, (i + 1) * outputs)
                x = g.op("Add", x, self._tap(products, i * dilation, before, channels))
        else:
            if taps > 1:
                parts = [self._tap(x, i * dilation, before, (0, inputs)) for i in range(taps)]
                x = g.op("Concat", *parts, axis=2)
            x = g.op("MatMul", x, g.constant(f"{name}.matrix", matrix))
        return x if bias is None else g.op("Add", x, g.constant(f"{name}.bias", bias))

    def _after_tail(self, x: str, name: str, positions: int, channels: int) -> str:
        """`x` with its left context before it."""
        g = self._g
        if not self._streaming:
            return g.op("Pad", x, g.ints(0, positions, 0, 0, 0, 0))
        self.tails[f"{name}.tail"] = (positions, channels)
        shape: list[int | str] = ["rows", positions, channels]
        x = g.op("Concat", g.input(f"{name}.tail", np.float32, shape), x, axis=1)
        last = g.op("Slice", x, g.ints(-positions), g.ints(_END), g.ints(1))
        g.output(last, f"{name}.tail.next", np.float32, shape)
        return x

    def _tap(self, x: str, start: int, before: int, channels: tuple[int, int]) -> str:
        """Of `before + n` positions the `n` from `start` on, and of them these channels."""
        g = self._g
        end = start - before if start < before else _END
        return g.op("Slice", x, g.ints(start, channels[0]), g.ints(end, channels[1]), g.ints(1, 2))

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        bias = self._weights.get(f"{name}.conv.bias")
        weight = _float32(self._weights[f"{name}.conv.weight"])
        return weight, None if bias is None else _float32(bias)


def _elu(g: Graph, x: str) -> str:
    # Elu itself takes twice as long as these four: 2.2 ns a value instead of 1.0.
    below = g.op("Exp", g.op("Min", x, g.value(np.float32(0))))
    return g.op("Max", x, g.op("Sub", below, g.value(np.float32(1))))


def _transposed_matrix(weight: np.ndarray) -> np.ndarray:
    """`[in, out, 2 * stride]` of a transposed convolution to `[2 * in, stride * out]`: what the
    position before and the position itself add to each of the `stride` positions out."""
    stride = weight.shape[2] // 2
    taps = weight.transpose(0, 2, 1)  # [in, 2 * stride, out]
    before, itself = taps[:, stride:], taps[:, :stride]
    return np.concatenate([before, itself]).reshape(2 * len(weight), -1)


# --- Transformer


class _Attention:
    """What all layers of a transformer share: angles, mask, and the form of the cache.

    Inputs: `cos` and `sin` `[rows * positions, head / 2]`, `angles` `[rows, positions]` which of
    them each position takes, and `mask`, added to the scores,
    `[rows, 1, 1, positions, window + positions]`; without a cache `[..., positions, positions]`.
    """

    def __init__(self, g: Graph, config: MimiConfig, *, cached: bool) -> None:
        self._g, self._config, self._cached = g, config, cached
        self.caches: list[tuple[str, str]] = []
        half = config.head_size // 2
        self._cos = g.input("cos", np.float32, ["angles", half])
        self._sin = g.input("sin", np.float32, ["angles", half])
        self._angles = g.input("angles", np.int64, ["rows", "positions"])
        self._mask = g.input("mask", np.float32, ["rows", 1, 1, "positions", "seen"])

    def apply(self, name: str, qkv: str) -> str:
        """`[rows, positions, (heads + 2 * kv_heads) * head]`, queries already divided by
        `sqrt(head)`, to `[rows, positions, heads * head]`."""
        g, config = self._g, self._config
        head, kv = config.head_size, config.kv_heads
        group = config.heads // kv
        turning, v = g.ops(
            "Split", qkv, g.ints((config.heads + kv) * head, kv * head), outputs=2, axis=2
        )
        turned = g.op(
            "RotaryEmbedding", turning, self._angles, self._cos, self._sin, domain=MICROSOFT
        )
        q, k = g.ops("Split", turned, g.ints(config.heads * head, kv * head), outputs=2, axis=2)
        q = g.op("Reshape", q, g.ints(0, 0, kv, group, head))
        q = g.op("Transpose", q, perm=[0, 2, 3, 1, 4])  # [rows, kv, group, positions, head]
        k = g.op("Reshape", k, g.ints(0, 0, kv, head))  # [rows, positions, kv, head]
        v = g.op("Reshape", v, g.ints(0, 0, kv, head))
        if self._cached:
            k_cache, v_cache = self._cache(name, k, v)

        k = g.op("Unsqueeze", g.op("Transpose", k, perm=[0, 2, 3, 1]), g.ints(2))
        v = g.op("Unsqueeze", g.op("Transpose", v, perm=[0, 2, 1, 3]), g.ints(2))
        scores = g.op("MatMul", q, k)  # [rows, kv, group, positions, positions]
        # The cache is read where it lies: joined with the new keys it would be copied every call.
        if self._cached:
            scores = g.op("Concat", g.op("MatMul", q, k_cache), scores, axis=-1)
        shares = g.op("Softmax", g.op("Add", scores, self._mask), axis=-1)
        if self._cached:
            window = config.window
            old = g.op("Slice", shares, g.ints(0), g.ints(window), g.ints(-1))
            new = g.op("Slice", shares, g.ints(window), g.ints(_END), g.ints(-1))
            x = g.op("Add", g.op("MatMul", old, v_cache), g.op("MatMul", new, v))
        else:
            x = g.op("MatMul", shares, v)  # [rows, kv, group, positions, head]
        x = g.op("Transpose", x, perm=[0, 3, 1, 2, 4])
        return g.op("Reshape", x, g.ints(0, 0, config.heads * head))

    def _cache(self, name: str, k: str, v: str) -> tuple[str, str]:
        g, config = self._g, self._config
        head, kv, window = config.head_size, config.kv_heads, config.window
        keys, values = f"{name}.keys", f"{name}.values"
        self.caches.append((keys, values))
        g.output(k, f"{keys}.new", np.float32, ["rows", "positions", kv, head])
        g.output(v, f"{values}.new", np.float32, ["rows", "positions", kv, head])
        k_cache = g.input(keys, np.float32, ["rows", kv, head, window])
        v_cache = g.input(values, np.float32, ["rows", kv, window, head])
        return g.op("Unsqueeze", k_cache, g.ints(2)), g.op("Unsqueeze", v_cache, g.ints(2))


def _transformer(
    g: Graph, x: str, name: str, config: MimiConfig, weights: Weights, attention: _Attention
) -> str:
    def linear(x: str, name: str, matrix: np.ndarray) -> str:
        return g.op("MatMul", x, g.constant(name, matrix))

    def norm(x: str, name: str) -> str:
        scale = g.constant(f"{name}.weight", _float32(weights[f"{name}.weight"]))
        bias = g.constant(f"{name}.bias", _float32(weights[f"{name}.bias"]))
        return g.op("LayerNormalization", x, scale, bias, epsilon=config.norm_eps)

    def matrix(name: str, scale: str | None = None) -> np.ndarray:
        """`[in, out]`, the layer scale's `[out]` multiplied in."""
        weight = _float32(weights[f"{name}.weight"]).T
        return weight if scale is None else weight * _float32(weights[f"{scale}.scale"])

    for number in range(config.layers):
        layer = f"{name}.layers.{number}"
        parts = [matrix(f"{layer}.self_attn.{part}_proj") for part in "qkv"]
        parts[0] = parts[0] / np.float32(math.sqrt(config.head_size))
        qkv = np.concatenate(parts, axis=1)  # [width, (heads + 2 * kv_heads) * head]
        back = matrix(f"{layer}.self_attn.o_proj", f"{layer}.self_attn_layer_scale")

        h = norm(x, f"{layer}.input_layernorm")
        h = attention.apply(layer, linear(h, f"{layer}.qkv", qkv))
        x = g.op("Add", x, linear(h, f"{layer}.o", back))

        h = norm(x, f"{layer}.post_attention_layernorm")
        h = g.op("Gelu", linear(h, f"{layer}.fc1", matrix(f"{layer}.mlp.fc1")))
        fc2 = matrix(f"{layer}.mlp.fc2", f"{layer}.mlp_layer_scale")
        x = g.op("Add", x, linear(h, f"{layer}.fc2", fc2))
    return x  # [rows, positions, width]


# --- Quantizer


def _quantizers(config: MimiConfig) -> list[tuple[str, int]]:
    """The two residual quantizers, in the codes' order, and how many codebooks each has."""
    acoustic = config.codebooks - config.semantic_codebooks
    return [
        ("quantizer.semantic_residual_vector_quantizer", config.semantic_codebooks),
        ("quantizer.acoustic_residual_vector_quantizer", acoustic),
    ]


def _codebook(weights: Weights, quantizer: str, number: int) -> np.ndarray:
    """`[codebook_size, codebook_width]`"""
    name = f"{quantizer}.layers.{number}.codebook"
    usage = np.maximum(_float32(weights[f"{name}.cluster_usage"]), np.float32(_USAGE_EPS))
    book: np.ndarray = _float32(weights[f"{name}.embed_sum"]) / usage[:, None]
    return book


def _projection(config: MimiConfig, weights: Weights, name: str) -> np.ndarray:
    """`[in, out]`; between equal widths the model has none."""
    if config.quantizer_width == config.width:
        return np.eye(config.width, dtype=np.float32)
    return _float32(weights[f"{name}.weight"])[:, :, 0].T


def _embed_codes(g: Graph, config: MimiConfig, weights: Weights, codes: str) -> str:
    """The sums of the semantic and of the acoustic entries side by side."""
    quantizers = _quantizers(config)
    books = [_codebook(weights, name, i) for name, count in quantizers for i in range(count)]
    starts = np.arange(config.codebooks, dtype=np.int64) * config.codebook_size
    entries = g.op("Add", g.op("Transpose", codes, perm=[0, 2, 1]), g.value(starts))
    x = g.op("Gather", g.constant("codebooks", np.concatenate(books)), entries)
    parts = g.ops("Split", x, g.ints(*(count for _, count in quantizers)), outputs=2, axis=2)
    sums = [g.op("ReduceSum", part, g.ints(2), keepdims=0) for part in parts]
    return g.op("Concat", *sums, axis=2)  # [rows, frames, 2 * codebook_width]


def _upsampling(config: MimiConfig, weights: Weights) -> np.ndarray:
    """The quantizers' output projections and the grouped transposed convolution after them, both
    linear, as one matrix `[2 * 2 * codebook_width, 2 * width]`."""
    names = [f"{name}.output_proj" for name, _ in _quantizers(config)]
    projection = np.concatenate([_projection(config, weights, name) for name in names])
    grouped = _float32(weights["upsample.conv.weight"])  # [width, width / groups, 2 * stride]
    size = config.width // config.upsample_groups
    dense = np.zeros((config.width, config.width, grouped.shape[2]), np.float32)
    for start in range(0, config.width, size):
        dense[start : start + size, start : start + size] = grouped[start : start + size]
    before, itself = np.split(_transposed_matrix(dense), 2)
    return np.concatenate([projection @ before, projection @ itself])


def _nearest_codes(g: Graph, config: MimiConfig, weights: Weights, x: str) -> str:
    """`[frames, width]` to codes `[codebooks, frames]`: the nearest entry of each codebook to what
    the codebooks before it left over."""
    codes = []
    for name, count in _quantizers(config):
        projection = _projection(config, weights, f"{name}.input_proj")
        rest = g.op("MatMul", x, g.constant(f"{name}.input_proj", projection))
        for number in range(count):
            book = _codebook(weights, name, number)
            entries = g.constant(f"{name}.{number}", book)
            squares = g.constant(f"{name}.{number}.squares", (book * book).sum(axis=1))
            # |x - e|² without |x|², the same for every entry e.
            distances = g.op("Gemm", rest, entries, squares, alpha=-2.0, transB=1)
            nearest = g.op("ArgMin", distances, axis=1, keepdims=0)  # [frames]
            codes.append(g.op("Unsqueeze", nearest, g.ints(0)))
            rest = g.op("Sub", rest, g.op("Gather", entries, nearest))
    return g.op("Concat", *codes, axis=0)


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)
