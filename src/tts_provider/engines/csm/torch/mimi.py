"""Mimi: a streaming decoder of many rows at once, and an encoder of whole recordings.

Activations are [B, channels, positions]. Each convolution carries its left context, its tail, from
call to call; a transposed one with a kernel of twice its stride needs one position of it. A row's
tails lie in one line of one tensor, its keys and values in rings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tts_provider.engines.csm.config import MimiConfig
from tts_provider.engines.csm.torch.language import rotate
from tts_provider.engines.csm.torch.weights import from_numpy, pairs

# Below this a codebook entry was never used in training (transformers' MimiEuclideanCodebook).
_USAGE_EPS = 1e-5

MOST_FRAMES = 4
"""Frames of a row in one run of the decoder."""

PIECE_STEPS = 128
"""Transformer positions that the encoder's convolutions make at a time, 5 s of a recording."""


def ring_positions(config: MimiConfig) -> int:
    """A run writes its keys first and then looks back a whole window from each of them."""
    return -(-(config.window + 2 * MOST_FRAMES) // 8) * 8


class MimiWeights:
    """The codec's tensors on the device, float32, by transformers' names without `codec_model.`"""

    def __init__(
        self, config: MimiConfig, weights: Mapping[str, np.ndarray], device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self._tensors = {
            name: from_numpy(array).to(device, torch.float32) for name, array in weights.items()
        }
        acoustic = config.codebooks - config.semantic_codebooks
        self.quantizers = [
            ("quantizer.semantic_residual_vector_quantizer", config.semantic_codebooks),
            ("quantizer.acoustic_residual_vector_quantizer", acoustic),
        ]

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def get(self, name: str) -> Tensor | None:
        return self._tensors.get(name)

    def codebooks(self, quantizer: str, count: int) -> Tensor:
        """[count, codebook_size, codebook_width]"""
        books = []
        for number in range(count):
            name = f"{quantizer}.layers.{number}.codebook"
            usage = self[f"{name}.cluster_usage"].clamp_min(_USAGE_EPS)
            books.append(self[f"{name}.embed_sum"] / usage[:, None])
        return torch.stack(books)

    def project(self, x: Tensor, name: str) -> Tensor:
        """A quantizer's projection, a convolution of one tap; equal widths have none."""
        weight = self.get(f"{name}.weight")
        return x if weight is None else F.conv1d(x, weight)


class MimiTransformer:
    def __init__(self, weights: MimiWeights, side: str) -> None:
        """`side` is encoder or decoder."""
        config, size = weights.config, weights.config.head_size
        self.config = config
        exponents = torch.arange(0, size, 2, dtype=torch.float32, device=weights.device) / size
        self._frequencies = 1.0 / config.rope_base**exponents  # [head / 2]
        self._layers: list[dict[str, Tensor]] = []
        for number in range(config.layers):
            name = f"{side}_transformer.layers.{number}"
            attention, scale = f"{name}.self_attn", weights[f"{name}.mlp_layer_scale.scale"]
            q, k = (pairs(weights[f"{attention}.{part}_proj.weight"], size) for part in "qk")
            out = weights[f"{attention}.o_proj.weight"]
            self._layers.append(
                {
                    "qkv": torch.cat((q, k, weights[f"{attention}.v_proj.weight"])),
                    "out": out * weights[f"{name}.self_attn_layer_scale.scale"][:, None],
                    "fc1": weights[f"{name}.mlp.fc1.weight"],
                    "fc2": weights[f"{name}.mlp.fc2.weight"] * scale[:, None],
                    **{
                        f"{norm}.{kind}": weights[f"{name}.{norm}.{kind}"]
                        for norm in ("input_layernorm", "post_attention_layernorm")
                        for kind in ("weight", "bias")
                    },
                }
            )

    def run(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor,
        keep: Callable[[int, Tensor], Tensor] = lambda _, kv: kv,
    ) -> Tensor:
        """x [B, width, n] at `positions` [B, n] → the same shape.

        `mask` [B, 1, n, m] is added to the scores over the m positions that `keep` returns, as
        [B, 2, KV, m, head], for a layer's new keys and values [B, 2, KV, n, head].
        """
        config = self.config
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
        angles = positions[:, :, None].float() * self._frequencies  # [B, n, head / 2]
        rotations = torch.polar(torch.ones_like(angles), angles)[:, :, None]
        x = x.transpose(1, 2)  # [B, n, width]
        for number, layer in enumerate(self._layers):
            h = self._norm(x, layer, "input_layernorm")
            qkv = F.linear(h, layer["qkv"]).unflatten(2, (-1, size))  # [B, n, H + 2 KV, head]
            turned = rotate(qkv[:, :, : heads + kv_heads], rotations)
            q = turned[:, :, :heads].transpose(1, 2)  # [B, H, n, head]
            new = torch.stack((turned[:, :, heads:], qkv[:, :, heads + kv_heads :]), dim=1)
            kv = keep(number, new.transpose(2, 3))  # [B, 2, KV, m, head]
            if heads != kv_heads:
                kv = kv[:, :, :, None].expand(-1, -1, -1, heads // kv_heads, -1, -1).flatten(2, 3)
            attended = F.scaled_dot_product_attention(q, kv[:, 0], kv[:, 1], attn_mask=mask)
            x = x + F.linear(attended.transpose(1, 2).flatten(2), layer["out"])
            h = self._norm(x, layer, "post_attention_layernorm")
            x = x + F.linear(F.gelu(F.linear(h, layer["fc1"])), layer["fc2"])
        return x.transpose(1, 2)

    def _norm(self, x: Tensor, layer: dict[str, Tensor], name: str) -> Tensor:
        weight, bias = layer[f"{name}.weight"], layer[f"{name}.bias"]
        return F.layer_norm(x, (self.config.width,), weight, bias, self.config.norm_eps)


def window_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """0 where a position sees another, else minus infinity.

    `queries` [B, n] and `keys` [B, m] are positions, negative ones never seen, to [B, 1, n, m].
    """
    ages = queries[:, :, None] - keys[:, None, :]
    seen = (ages >= 0) & (ages < window) & (keys[:, None, :] >= 0)
    mask = torch.zeros(seen.shape, dtype=torch.float32, device=seen.device)
    return mask.masked_fill(~seen, -torch.inf)[:, None]


class MimiDecoder:
    """The concatenated output of a row is what decoding all of its codes at once gives, however
    they were cut."""

    def __init__(self, weights: MimiWeights, rows: int) -> None:
        config, device = weights.config, weights.device
        self.config = config
        self._weights = weights
        self._transformer = MimiTransformer(weights, "decoder")
        self._books = torch.cat([weights.codebooks(*quantizer) for quantizer in weights.quantizers])
        self._books = self._books.flatten(0, 1)  # [codebooks · codebook_size, codebook_width]
        self._first_entries = config.codebook_size * torch.arange(config.codebooks, device=device)
        # How long each convolution's tail is shows when they are applied: once, to nothing.
        self._tails = _Tails(torch.zeros((1, 0), device=device))
        nothing = torch.zeros((1, 1, config.codebooks), dtype=torch.int64, device=device)
        self._convolutions(self._embed(nothing), lambda x: x, self._tails)
        self.reserve(rows)

    def reserve(self, rows: int) -> None:
        """Take the memory of so many streams, all new, instead of what there was."""
        config, device = self.config, self._weights.device
        self._kv = self._state = torch.zeros(0, device=device)
        ring = ring_positions(config)
        shape = (config.layers, rows, 2, config.kv_heads, ring, config.head_size)
        self._kv = torch.zeros(shape, device=device)
        self._state = torch.zeros((rows, self._tails.size), device=device)

    def reset(self, row: int) -> None:
        """Start a new stream in `row`. Masks hide old keys and values where they are finite."""
        self._state[row].zero_()
        self._kv[:, row].zero_()

    def run(self, rows: Tensor, starts: Tensor, codes: Tensor) -> Tensor:
        """Continue the streams in `rows` [B], which have had `starts` [B] frames.

        codes [B, frames, codebooks] → samples [B, frames · samples_per_frame].
        """
        config, ring = self.config, self._kv.shape[4]
        count, length = len(rows), 2 * codes.shape[1]
        steps = torch.arange(length, device=codes.device)
        positions = 2 * starts[:, None] + steps  # [B, n]
        # Position p lies at p % ring; the order of keys does not matter to attention.
        last = positions[:, -1:]
        held = last - (last - torch.arange(ring, device=codes.device)) % ring  # [B, ring]
        mask = window_mask(positions, held, config.window)
        targets = rows[:, None].expand(-1, length).flatten()
        places = (positions % ring).flatten()

        def keep(number: int, new: Tensor) -> Tensor:
            kv = self._kv[number]  # [rows, 2, KV, ring, head]
            kv[targets, :, :, places] = new.permute(0, 3, 1, 2, 4).flatten(0, 1)
            return kv.index_select(0, rows)

        tails = _Tails(self._state.index_select(0, rows))
        x = self._convolutions(
            self._embed(codes),
            lambda x: self._transformer.run(x, positions, mask, keep),
            tails,
        )
        self._state[rows] = tails.joined()
        return x.reshape(count, -1)

    def _embed(self, codes: Tensor) -> Tensor:
        """Codes [B, frames, codebooks] → [B, width, frames]."""
        entries = self._books[codes + self._first_entries]  # [B, frames, codebooks, width]
        start, total = 0, None
        for quantizer, count in self._weights.quantizers:
            x = entries[:, :, start : start + count].sum(2).transpose(1, 2)
            x = self._weights.project(x, f"{quantizer}.output_proj")
            start, total = start + count, x if total is None else total + x
        assert total is not None
        return total

    def _convolutions(
        self, x: Tensor, transformer: Callable[[Tensor], Tensor], tails: _Tails
    ) -> Tensor:
        config, weights = self.config, self._weights

        def causal(x: Tensor, name: str, dilation: int = 1) -> Tensor:
            weight = weights[f"{name}.conv.weight"]  # [out, in, taps]
            x = tails.before(x, (weight.shape[2] - 1) * dilation)
            return F.conv1d(x, weight, weights.get(f"{name}.conv.bias"), dilation=dilation)

        def transposed(x: Tensor, name: str, stride: int, groups: int = 1) -> Tensor:
            weight = weights[f"{name}.conv.weight"]  # [in, out / groups, 2 · stride]
            bias = weights.get(f"{name}.conv.bias")
            positions = x.shape[2] * stride
            x = tails.before(x, 1)
            if groups == weight.shape[0] and weight.shape[1] == 1:
                return _spread(x, weight[:, 0], bias)
            x = F.conv_transpose1d(x, weight, bias, stride=stride, groups=groups)
            return x[:, :, stride : stride + positions]

        x = transposed(x, "upsample", 2, config.upsample_groups)
        x = transformer(x)
        x = causal(x, "decoder.layers.0")
        index = 1
        for ratio in config.ratios:
            x = transposed(F.elu(x), f"decoder.layers.{index + 1}", ratio)
            index += 2
            for number in range(config.residual_layers):
                name = f"decoder.layers.{index}.block"
                inner = causal(F.elu(x), f"{name}.1", config.dilation_growth**number)
                x = x + causal(F.elu(inner), f"{name}.3")
                index += 1
        return causal(F.elu(x), f"decoder.layers.{index + 1}")  # [B, 1, samples]


def _spread(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [B, channels, n + 1], weight [channels, 2 · stride] → [B, channels, n · stride].

    A transposed convolution of each channel by itself: every position out is the sum of two
    positions in. PyTorch's own may take a hundred times as long on a GPU (pytorch#47341).
    """
    taps = weight.unflatten(1, (2, 1, -1))  # [channels, 2, 1, stride]
    x = x[:, :, :, None]
    spread = torch.addcmul(x[:, :, 1:] * taps[:, 0], x[:, :, :-1], taps[:, 1]).flatten(2)
    return spread if bias is None else spread + bias[:, None]


class _Tails:
    """Every convolution's left context, in the order they are applied, as one line a row."""

    def __init__(self, state: Tensor) -> None:
        """`state` [B, size]; without columns all tails are zeros, and `size` tells their room."""
        self._state = state
        self._next: list[Tensor] = []
        self.size = 0

    def before(self, x: Tensor, positions: int) -> Tensor:
        """x [B, channels, n] after its tail, whose last positions are the tail of the next call."""
        if positions == 0:
            return x
        rows, channels, _ = x.shape
        start, self.size = self.size, self.size + channels * positions
        if self._state.shape[1]:
            tail = self._state[:, start : self.size].unflatten(1, (channels, positions))
        else:
            tail = x.new_zeros((rows, channels, positions))
        x = torch.cat((tail, x), dim=2)
        self._next.append(x[:, :, -positions:].flatten(1))
        return x

    def joined(self) -> Tensor:
        return torch.cat(self._next, dim=1)


class MimiEncoder:
    """Encodes whole recordings, the voice prompts.

    The convolutions see them in pieces, each with what is left of the one before, as the decoder's
    do: at 24 000 positions a second their activations are most of the memory that it takes.
    """

    def __init__(self, weights: MimiWeights) -> None:
        self._weights = weights
        self._transformer = MimiTransformer(weights, "encoder")
        self._books = [weights.codebooks(*quantizer) for quantizer in weights.quantizers]

    def run(self, samples: Tensor) -> Tensor:
        """Samples [n] at the codec's rate → codes [codebooks, ceil(n / samples_per_frame)]."""
        config = self._weights.config
        piece = PIECE_STEPS * config.samples_per_step
        state, parts = samples.new_zeros((1, 0)), []
        for start in range(0, len(samples), piece):
            tails = _Tails(state)
            parts.append(self._convolutions(samples[None, None, start : start + piece], tails))
            state = tails.joined()
        x = torch.cat(parts, dim=2)  # [1, width, positions]

        positions = torch.arange(x.shape[2], device=x.device)[None]
        x = self._transformer.run(x, positions, window_mask(positions, positions, config.window))

        # Before the start and after the end is the edge's value.
        x = F.pad(x, (2, -x.shape[2] % 2), mode="replicate")
        x = self._strided(x, "downsample", 2)  # [1, width, frames]
        codes = []
        for (quantizer, _), books in zip(self._weights.quantizers, self._books, strict=True):
            rest = self._weights.project(x, f"{quantizer}.input_proj")[0].t()  # [frames, width]
            for book in books:
                # |x - e|² without |x|², the same for every entry e.
                nearest = ((book * book).sum(1) - 2 * rest @ book.t()).argmin(1)
                codes.append(nearest)
                rest = rest - book[nearest]
        return torch.stack(codes)

    def _convolutions(self, x: Tensor, tails: _Tails) -> Tensor:
        """Samples [1, 1, n] → [1, width, ceil(n / samples_per_step)]. Only the last piece may end
        within a position; zeros fill it."""
        config = self._weights.config

        def causal(x: Tensor, name: str, dilation: int = 1) -> Tensor:
            weight = self._weights[f"{name}.conv.weight"]
            x = tails.before(x, (weight.shape[2] - 1) * dilation)
            return F.conv1d(x, weight, self._weights.get(f"{name}.conv.bias"), dilation=dilation)

        def strided(x: Tensor, name: str, stride: int) -> Tensor:
            return self._strided(
                F.pad(tails.before(x, stride), (0, -x.shape[2] % stride)), name, stride
            )

        x = causal(x, "encoder.layers.0")
        index = 1
        for ratio in reversed(config.ratios):
            for number in range(config.residual_layers):
                name = f"encoder.layers.{index}.block"
                inner = causal(F.elu(x), f"{name}.1", config.dilation_growth**number)
                x = x + causal(F.elu(inner), f"{name}.3")
                index += 1
            x = strided(F.elu(x), f"encoder.layers.{index + 1}", ratio)
            index += 2
        return causal(F.elu(x), f"encoder.layers.{index + 1}")

    def _strided(self, x: Tensor, name: str, stride: int) -> Tensor:
        """One position out for each `stride` in, behind `stride` before the start."""
        weight, bias = self._weights[f"{name}.conv.weight"], self._weights.get(f"{name}.conv.bias")
        return F.conv1d(x, weight, bias, stride=stride)
