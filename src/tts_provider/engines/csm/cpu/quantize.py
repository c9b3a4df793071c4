"""Weights in blocks of few bits, as ONNX Runtime's MatMulNBits reads them.

Symmetric: each block of a row has one float32 scale, and a weight is (code - middle) · scale. The
scale takes the block's largest weight to the lowest code, which has no positive counterpart; with
4 bits, a smaller scale that cuts the largest off may have the smaller error and is tried too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Bits = Literal[4, 8]

_SHRINKS: dict[Bits, tuple[float, ...]] = {4: (1.0, 0.93, 0.86, 0.79), 8: (1.0,)}


@dataclass(frozen=True)
class Blocks:
    """How a layer is stored: bits a weight, and weights a scale."""

    bits: Bits
    size: int

    def fit(self, width: int) -> Blocks:
        """The same blocks, made to divide rows of `width`. Raises `ValueError` if that is
        impossible."""
        for size in (self.size, 32, 16):
            if size <= self.size and width % size == 0:
                return Blocks(self.bits, size)
        raise ValueError(f"rows of {width} weights cannot be cut into blocks of 16 or more")


def packed_shapes(rows: int, width: int, blocks: Blocks) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of what `quantize` returns; `blocks` fits `width`."""
    per_row = width // blocks.size
    return (rows, per_row, blocks.size * blocks.bits // 8), (rows * per_row,)


def quantize(weights: np.ndarray, blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) → uint8 codes (rows, blocks, bytes) and float32 scales (rows · blocks,)."""
    rows, width = weights.shape
    codes_shape, scales_shape = packed_shapes(rows, width, blocks)
    codes, scales = np.empty(codes_shape, np.uint8), np.empty(scales_shape, np.float32)
    per_row = width // blocks.size
    for start in range(0, rows, 1024):  # a piece at a time bounds the float32 copies
        piece = weights[start : start + 1024].astype(np.float32).reshape(-1, per_row, blocks.size)
        piece_codes, piece_scales = _quantize_blocks(piece, blocks.bits)
        codes[start : start + 1024] = piece_codes
        scales[start * per_row : (start + len(piece)) * per_row] = piece_scales.reshape(-1)
    return codes, scales


def _quantize_blocks(blocks: np.ndarray, bits: Bits) -> tuple[np.ndarray, np.ndarray]:
    middle = 1 << (bits - 1)
    largest = np.abs(blocks).argmax(-1, keepdims=True)
    widest = np.take_along_axis(blocks, largest, -1) / -middle  # [rows, blocks, 1]
    scales, codes = widest, _round(blocks, widest, middle)
    if len(_SHRINKS[bits]) > 1:
        least = _error(blocks, codes, scales, middle)
        for shrink in _SHRINKS[bits][1:]:
            tried = _round(blocks, widest * shrink, middle)
            error = _error(blocks, tried, widest * shrink, middle)
            better = error < least
            codes = np.where(better, tried, codes)
            scales = np.where(better, widest * shrink, scales)
            least = np.minimum(error, least)
    codes = codes.astype(np.uint8)
    if bits == 4:
        codes = codes[..., ::2] | (codes[..., 1::2] << 4)  # the even weight in the low half
    return codes, scales[..., 0]


def _round(blocks: np.ndarray, scales: np.ndarray, middle: int) -> np.ndarray:
    # If a scale is too small to be inverted, every weight is zero.
    usable = np.abs(scales) >= np.finfo(scales.dtype).tiny
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=usable)
    codes: np.ndarray = np.clip(np.rint(blocks * inverse) + middle, 0, 2 * middle - 1)
    return codes


def _error(blocks: np.ndarray, codes: np.ndarray, scales: np.ndarray, middle: int) -> np.ndarray:
    """Squared error of each block, [rows, blocks, 1]."""
    error: np.ndarray = np.square((codes - middle) * scales - blocks).sum(-1, keepdims=True)
    return error
