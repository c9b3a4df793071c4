"""Chooses what computes the language model on this machine: our kernels if they run, else ONNX
Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.cpu.language import Language
from tts_provider.engines.csm.cpu.policy import Precision
from tts_provider.engines.csm.native.language import NativeLanguage, check_fits
from tts_provider.engines.csm.native.library import NoKernels, open_kernels
from tts_provider.engines.csm.onnx.sessions import OnnxLanguage


def load_language(
    config: CsmConfig,
    weights: Mapping[str, np.ndarray],
    precision: Precision,
    slots: int,
    threads: int,
    on_progress: Callable[[str], None],
) -> Language:
    """Load the two transformers for `slots` streams. Progress says what computes them, and why."""
    try:
        check_fits(config, precision)
        kernels = open_kernels()
    except NoKernels as reason:
        on_progress(f"building the graphs for ONNX Runtime: {reason}")
        return OnnxLanguage(config, weights, slots=slots, threads=threads)
    on_progress(f"packing the weights for the CPU kernels for {kernels.name}: {kernels.reason}")
    return NativeLanguage(kernels, config, weights, slots=slots, threads=threads)
