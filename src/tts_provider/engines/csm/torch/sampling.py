"""Sampling on the device: temperature, top-k and a row's own random numbers, no synchronisation.

A draw is Gumbel-max: of the k best logits, each less the best, divided by the temperature and
raised by noise of its own, the largest. The noise is a hash of (seed, frame, codebook, rank): it
depends on nothing else, so company changes no row's draws, and a whole frame's noise is made at
once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NARROW_TOP_K = 64
"""What the captured graphs draw from at most; rows that ask for more go a slower way."""

# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the n-th
# number of a seed needs no number before it. Constants as the signed integers torch computes with.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def seed_bits(seed: int | Sequence[int]) -> int:
    """A sampler's seed as one well-mixed signed 64-bit integer."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64).view(np.int64)[0])


def noise(seeds: Tensor, frames: Tensor, top_k: Tensor, codebooks: int, width: int) -> Tensor:
    """Gumbel noise of a frame, float32 [B, codebooks, width]; minus infinity from rank top_k on.

    `seeds` and `frames` (how many the seed has made) are int64 [B], `top_k` too or [B, codebooks].
    """
    ranks = torch.arange(width, device=seeds.device)
    books = torch.arange(codebooks, device=seeds.device)
    # 2048 is the longest top_k: no two draws of a seed share a number, whatever the width.
    number = ((frames[:, None, None] * codebooks + books[:, None]) << 11) + ranks
    uniform = _uniform(seeds[:, None, None] + (number + 1) * _STEP)
    gumbel = -torch.log(-torch.log(uniform))  # [B, codebooks, width]
    return gumbel.masked_fill(ranks >= top_k.view(len(top_k), -1, 1), -torch.inf)


def bound_inverse(temperature: float) -> float:
    """1 / temperature as a normal float32 above 0: with zero or infinity a product would be NaN."""
    limits = np.finfo(np.float32)
    return min(max(1 / temperature, float(limits.tiny)), float(limits.max))


def pick(logits: Tensor, noise: Tensor, inverse_temperature: Tensor) -> tuple[Tensor, Tensor]:
    """A code of each row, int64 [B], and its best logit, float32 [B], which is finite where all
    logits are numbers and none is infinite, but for minus infinity, which is never drawn.

    logits [B, codes], noise [B, width], temperature [B, 1]. With top_k 1 only the best has finite
    noise: that is greedy.
    """
    values, codes = logits.topk(min(noise.shape[1], logits.shape[1]))  # [B, width], best first
    values = values.float()  # NaN is the best of all
    best = values[:, :1]
    scores = torch.addcmul(noise[:, : values.shape[1]], values - best, inverse_temperature)
    return codes.gather(1, scores.argmax(1, keepdim=True)).squeeze(1), best.squeeze(1)


def _uniform(z: Tensor) -> Tensor:
    """SplitMix64's mixing of int64 → float32 strictly between 0 and 1."""
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    z = z ^ _shift_right(z, 31)
    # 23 bits and a half: as many as float32 holds exactly, so neither 0 nor 1 comes out.
    return (_shift_right(z, 41).float() + 0.5) * 2.0**-23


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """As if z were unsigned."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
