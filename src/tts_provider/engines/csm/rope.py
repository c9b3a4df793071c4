"""RoPE's frequencies, with Llama 3's stretching where the checkpoint says so."""

from __future__ import annotations

import math

import numpy as np

from tts_provider.engines.csm.config import RopeScaling, TransformerConfig


def rope_angles(config: TransformerConfig, positions: int) -> np.ndarray:
    """Angle of each pair of channels at every position, float64 [positions, head_size / 2]."""
    pairs = np.arange(0, config.head_size, 2, dtype=np.float64) / config.head_size
    frequencies = config.rope_base**-pairs
    if config.rope_scaling is not None:
        frequencies = _llama3_frequencies(frequencies, config.rope_scaling)
    return np.outer(np.arange(positions), frequencies)


def _llama3_frequencies(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Llama 3.1's rule: long waves are stretched, short ones kept, those between blended."""
    turns = scaling.original_positions * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)
