"""The language model: backbone, depth decoder, heads.

Both transformers have the shape of Llama: RMSNorm, grouped-query attention with RoPE, SiLU-gated
MLP, no biases. Batch is B, sequence S, tokens N = B · S, width W. Every shape is static and nothing
looks at a value, so that a CUDA graph can hold it. Heads that share a key head lie side by side as
queries of that head: attention then needs neither copies of the keys nor a backend that knows
about groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tts_provider.engines.csm.config import TransformerConfig
from tts_provider.engines.csm.torch.adapters import Product, RowAdapters
from tts_provider.engines.csm.torch.sampling import Draws, silu_gate

Attend = Callable[[Tensor, Tensor], Tensor]
"""Queries [N, H, head], the layer's cache, which has their keys and values → [N, H · head]."""


@dataclass(frozen=True)
class Places:
    """Where tokens stand in a cache [rows, 2, KV, positions, head], and how they are turned."""

    rows: Tensor  # int64 [N]
    positions: Tensor  # int64 [N]
    rotations: Tensor  # complex64 [N or 1, H + 2 KV, head / 2]


Turn = Callable[[Tensor, Places, Tensor], Tensor]
"""Queries, keys and values side by side [N, H + 2 KV, head], their places, a layer's cache →
queries [N, H, head], turned. Keys, turned, and values are then in the cache. May overwrite its
input."""


def turn(qkv: Tensor, places: Places, cache: Tensor) -> Tensor:
    """The `Turn` that PyTorch computes."""
    kv_heads = cache.shape[2]
    heads = qkv.shape[1] - 2 * kv_heads
    turned = rotate(qkv, places.rotations)
    cache[places.rows, :, :, places.positions] = turned[:, heads:].unflatten(1, (2, kv_heads))
    return turned[:, :heads]


@dataclass(frozen=True)
class Layer:
    """Weights as `linear` takes them, [out, in]."""

    attention_norm: Tensor  # [W]
    qkv: Tensor  # [(H + 2 KV) · head, W], rows of q and k in pairs for RoPE
    out: Tensor  # [W, H · head]
    mlp_norm: Tensor  # [W]
    gate_up: Tensor  # [2 · mlp, W]
    down: Tensor  # [W, mlp]


@dataclass(frozen=True)
class Transformer:
    config: TransformerConfig
    layers: tuple[Layer, ...]
    norm: Tensor  # [W]
    # RoPE as complex64 [positions, H + 2 KV, head / 2]; values are turned by nothing, so that they
    # stay beside their keys and are written with them at once.
    rotations: Tensor
    gate: Callable[[Tensor], Tensor] = silu_gate
    turn: Turn = turn

    def run(
        self,
        x: Tensor,
        kv: Tensor,
        places: Places,
        attend: Attend,
        adapters: RowAdapters | None = None,
    ) -> Tensor:
        """x [N, W] through the layers; x is overwritten, and the last norm is not yet in.

        kv [layers, rows, 2, KV, positions, head] is the cache.
        """

        def adapt(number: int, product: Product, inputs: Tensor, to: Tensor) -> None:
            if adapters is not None:
                adapters.add(number, product, inputs, to)

        config = self.config
        for number, layer in enumerate(self.layers):
            h = F.rms_norm(x, (config.width,), layer.attention_norm, config.norm_eps)
            qkv = F.linear(h, layer.qkv)
            adapt(number, "qkv", h, qkv)
            qkv = qkv.unflatten(1, (-1, config.head_size))  # [N, H + 2 KV, head]
            attended = attend(self.turn(qkv, places, kv[number]), kv[number])
            # In place: the matrix product adds to the residual itself.
            x.addmm_(attended, layer.out.t())
            adapt(number, "out", attended, x)
            h = F.rms_norm(x, (config.width,), layer.mlp_norm, config.norm_eps)
            gate_up = F.linear(h, layer.gate_up)
            adapt(number, "gate_up", h, gate_up)
            gated = self.gate(gate_up)  # [N, mlp]
            x.addmm_(gated, layer.down.t())
            adapt(number, "down", gated, x)
        return x

    def finish(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.config.width,), self.norm, self.config.norm_eps)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """x [..., head], neighbors in pairs, turned by complex `rotations` [..., head / 2]."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(x.dtype)


class Backbone:
    """The backbone, its embeddings, and the KV cache of all slots and of one more for padding."""

    def __init__(
        self, transformer: Transformer, text_table: Tensor, audio_table: Tensor, slots: int
    ) -> None:
        """text_table [text codes, W]; audio_table [codebooks, entries, W]."""
        positions = len(transformer.rotations)
        self._transformer = transformer
        self._text_table = text_table
        self._audio_table = audio_table.flatten(0, 1)
        codebooks, self._entries = audio_table.shape[:2]
        self._first_entries = self._entries * torch.arange(codebooks, device=audio_table.device)
        self._positions = positions
        self.reserve(slots)

    def reserve(self, slots: int) -> None:
        """Take the memory of so many slots, empty, instead of what there was."""
        config, table, self.scratch = self._transformer.config, self._text_table, slots
        self.kv = self.hidden = table[:0]  # given back before as much again is taken
        shape = (config.layers, slots + 1, 2, config.kv_heads, self._positions, config.head_size)
        self.kv = torch.zeros(shape, dtype=table.dtype, device=table.device)
        # What the model answers to what a slot read last; the depth decoder's beginning.
        self.hidden = torch.zeros_like(table[:1]).repeat(slots + 1, 1)  # [slots + 1, W]

    def reset(self, slot: int) -> None:
        """Forget what the slot held: numbers that are not finite would pass every mask."""
        self.kv[:, slot].zero_()
        self.hidden[slot].zero_()

    def embed(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Prompt rows: tokens [S], codes [S, codebooks] where the token is negative → [S, W]."""
        text = self._text_table[tokens.clamp_min(0)]
        return torch.where((tokens < 0)[:, None], self.embed_frames(codes), text)

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Codes [B, codebooks] → the sum of their embeddings [B, W]."""
        embedded: Tensor = self._audio_table[codes + self._first_entries]
        return embedded.sum(1)

    def read(
        self,
        x: Tensor,
        slots: Tensor,
        starts: Tensor,
        counts: Tensor,
        span: int,
        adapters: RowAdapters | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """Let each slot read its row of x [B, S, W]: `counts` [B] positions from `starts` [B] on.

        What follows them is padding and leaves no trace. `span` bounds starts + counts: attention
        looks no further. Keeps the answer to the last position in `hidden`.

        Slots may be any, and attention gathers what they hold. With `in_place` it reads that where
        it is: each row is of the slot of its own number, or of the scratch row.
        """
        config = self._transformer.config
        rows, sequence, width = x.shape
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
        group = heads // kv_heads
        steps = torch.arange(sequence, device=x.device)
        wanted = starts[:, None] + steps  # [B, S]
        positions = wanted.clamp_max(self.kv.shape[4] - 1).flatten()  # [N]
        real = steps < counts[:, None]
        # `where` with a number would copy it to the device, which a graph cannot hold.
        targets = slots[:, None].expand_as(real).masked_fill(~real, self.scratch).flatten()  # [N]
        seen = torch.arange(span, device=x.device) <= wanted[:, :, None]  # [B, S, span]
        mask = torch.zeros(seen.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~seen, -torch.inf)[:, None, :, None]
        mask = mask.expand(-1, -1, -1, group, -1).flatten(2, 3)  # [B, 1, S · group, span]

        def attend(q: Tensor, kv: Tensor) -> Tensor:
            past = kv[:, :, :, :span]
            past = past[:rows] if in_place else past.index_select(0, slots)  # [B, 2, KV, span, …]
            q = q.reshape(rows, sequence, kv_heads, group, size).transpose(1, 2).flatten(2, 3)
            out = F.scaled_dot_product_attention(q, past[:, 0], past[:, 1], attn_mask=mask)
            out = out.reshape(rows, kv_heads, sequence, group, size).transpose(1, 2)
            return out.reshape(-1, heads * size)  # [N, H · head]

        places = Places(targets, positions, self._transformer.rotations[positions])
        x = self._transformer.run(x.reshape(-1, width), self.kv, places, attend, adapters)
        last = x.unflatten(0, (rows, sequence))[torch.arange(rows, device=x.device), counts - 1]
        self.hidden[slots] = self._transformer.finish(last)


class Depth:
    """Code 0 from the backbone's hidden state, the others one by one through the depth decoder."""

    def __init__(
        self,
        transformer: Transformer,
        table: Tensor,
        projection: Tensor,
        head: Tensor,
        heads: Tensor,
    ) -> None:
        """table [codebooks, entries, depth W], the audio embeddings through the projection
        [depth W, W]; head [codes, W] of code 0; heads [codebooks - 1, codes, depth W]."""
        self._transformer = transformer
        self._table, self._projection, self._head, self._heads = table, projection, head, heads
        self._numbers = torch.arange(len(heads) + 2, device=heads.device)

    def speak(
        self,
        hidden: Tensor,
        draws: Draws,
        adapters: RowAdapters | None = None,
    ) -> tuple[Tensor, Tensor]:
        """hidden [B, W] → codes [B, codebooks], and whether the logits that they were drawn from
        were finite, bool [B]."""
        transformer = self._transformer
        config, rows = transformer.config, len(hidden)
        books = len(self._heads) + 1
        # The caches live for one frame. Layer, row, keys or values, head, position.
        shape = (config.layers, rows, 2, config.kv_heads, books + 1, config.head_size)
        kv = torch.empty(shape, dtype=hidden.dtype, device=hidden.device)

        code, best = draws.pick(0, F.linear(hidden, self._head))
        codes, bests = [code], [best]
        # The backbone's state and code 0 go in together: one reading of the weights for both.
        first = F.linear(hidden, self._projection)
        x = torch.stack((first, self._table[0][code]), dim=1).flatten(0, 1)  # [2 B, depth W]
        rows_of_x = torch.arange(rows, device=hidden.device)
        start, sequence = 0, 2
        for book in range(1, books):
            places = self._places(rows_of_x, start, sequence)
            attend = partial(self._attend, start, sequence)
            x = transformer.run(x, kv, places, attend, adapters)
            last = transformer.finish(x.unflatten(0, (rows, sequence))[:, -1])
            logits = F.linear(last, self._heads[book - 1])  # [B, codes]
            code, best = draws.pick(book, logits)
            codes.append(code)
            bests.append(best)
            x = self._table[book][code]  # [B, depth W]
            start, sequence = start + sequence, 1
        # Once for the whole frame: a check of each code would be kernels beside each.
        return torch.stack(codes, dim=1), torch.stack(bests, dim=1).isfinite().all(1)

    def _places(self, rows: Tensor, start: int, sequence: int) -> Places:
        """Each row's tokens from position `start` on, side by side."""
        positions = self._numbers[start : start + sequence]
        rotations = self._transformer.rotations[start : start + sequence]
        if sequence == 1:
            return Places(rows, positions.expand(len(rows)), rotations)
        return Places(
            rows[:, None].expand(-1, sequence).flatten(),
            positions.repeat(len(rows)),
            rotations.repeat(len(rows), 1, 1),
        )

    def _attend(self, start: int, sequence: int, q: Tensor, kv: Tensor) -> Tensor:
        config = self._transformer.config
        q = q.reshape(
            -1, sequence, config.kv_heads, config.heads // config.kv_heads, config.head_size
        )
        keys, values = kv.unbind(1)  # [B, KV, positions, head] each
        # Every row is at the same position: what is there is all seen, no mask is needed.
        parts = []
        for step in range(sequence):
            end = start + step + 1
            part = F.scaled_dot_product_attention(q[:, step], keys[:, :, :end], values[:, :, :end])
            parts.append(part.flatten(1))  # [B, H · head]
        return parts[0] if sequence == 1 else torch.stack(parts, dim=1).flatten(0, 1)
