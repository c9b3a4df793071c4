"""Sampling on the device, without synchronization: what engines/csm/sampling.py defines.

The noise of all codes of a frame is made at once, before anything is drawn: that is a few kernels a
frame, not a few for each codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tts_provider.engines.csm.sampling import BOOK_SHIFT, FRAME_SHIFT, MIX_1, MIX_2, STEP

NARROW_TOP_K = 64
"""What the common graphs draw from at most; rows that ask for more go a slower way."""

_VALUES_AT_ONCE = 2**22
"""Integers that noise is made from at a time, 34 MB and as much again."""


def signed(bits: int) -> int:
    """64 bits as the signed integer that torch computes with; it wraps as C's unsigned does."""
    return bits - 2**64 if bits >= 2**63 else bits


def noise(keys: Tensor, frames: Tensor, codebooks: int, codes: int) -> Tensor:
    """Gumbel noise of a frame, float32 [B, codebooks, codes].

    `keys` and `frames`, those of each row's sampler, are int64 [B].
    """
    device = keys.device
    books = torch.arange(codebooks, device=device)
    numbers = (frames[:, None] << FRAME_SHIFT) + (books << BOOK_SHIFT) + 1
    starts = keys[:, None] + numbers * signed(STEP)  # [B, codebooks]
    steps = torch.arange(codes, device=device) * signed(STEP)
    gumbel = torch.empty((len(keys), codebooks, codes), device=device)
    count = max(1, _VALUES_AT_ONCE // (len(keys) * codes))
    for first in range(0, codebooks, count):
        part = slice(first, first + count)
        _mix(starts[:, part, None] + steps, gumbel[:, part])
    return gumbel.log_().neg_().log_().neg_()


def _mix(z: Tensor, uniform: Tensor) -> None:
    """int64 → float32 strictly between 0 and 1; z is overwritten."""
    for bits, factor in ((30, MIX_1), (27, MIX_2)):
        # As if z were unsigned: what is shifted in are zeros.
        z.bitwise_xor_((z >> bits).bitwise_and_((1 << (64 - bits)) - 1)).mul_(signed(factor))
    z.bitwise_right_shift_(40).bitwise_and_(0xFFFFFF).bitwise_or_(1)
    torch.mul(z, 2.0**-24, out=uniform)


def candidates(top_k: Tensor, width: int) -> Tensor:
    """What is added to the `width` largest logits: 0 to the first top_k, minus infinity to the
    others. top_k int64 [B] → float32 [B, width]."""
    ranks = torch.arange(width, device=top_k.device)
    zeros = torch.zeros((len(top_k), width), device=top_k.device)
    return zeros.masked_fill(ranks >= top_k[:, None], -torch.inf)


class Draws(Protocol):
    """A frame's draws, one codebook after the other."""

    def pick(self, book: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `pick` below, of codebook `book`."""


@dataclass(frozen=True)
class NoiseDraws:
    """Candidates [B, width] are those of code 0 and those of the others."""

    noise: Tensor  # [B, codebooks, codes]
    candidates: tuple[Tensor, Tensor]
    inverse_temperatures: Tensor  # [B, 2], of code 0 and of the others

    def pick(self, book: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        kind = min(book, 1)
        inverse = self.inverse_temperatures[:, kind : kind + 1]
        return pick(logits, self.noise[:, book], self.candidates[kind], inverse)


def silu_gate(gate_up: Tensor) -> Tensor:
    """silu(gate) · up, of [N, 2 · mlp] the halves → [N, mlp]."""
    gate, up = gate_up.chunk(2, dim=1)
    return F.silu(gate) * up


def bound_inverse(temperature: float) -> float:
    """1 / temperature as a normal float32 above 0: with zero or infinity a product would be NaN.
    Greedy is a temperature of 0 here, too, and has one candidate."""
    limits = np.finfo(np.float32)
    inverse = 1.0 if temperature == 0 else 1 / temperature
    return min(max(inverse, float(limits.tiny)), float(limits.max))


def pick(
    logits: Tensor, noise: Tensor, candidates: Tensor, inverse_temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """A code of each row, int64 [B], and its best logit, float32 [B], which is finite where all
    logits are numbers and none is infinite, but for minus infinity, which is never drawn.

    logits [B, codes], noise [B, codes], candidates [B, width], temperature [B, 1]. Of equal logits
    `topk` takes which it likes.
    """
    values, codes = logits.topk(min(candidates.shape[1], logits.shape[1]))  # [B, width]
    values = values.float()  # NaN is the best of all
    best = values[:, :1]
    scores = torch.addcmul(candidates[:, : values.shape[1]], values - best, inverse_temperature)
    scores += noise.gather(1, codes)
    return codes.gather(1, scores.argmax(1, keepdim=True)).squeeze(1), best.squeeze(1)
