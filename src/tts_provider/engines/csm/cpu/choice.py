"""What computes the language model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.cpu.language import Language
from tts_provider.engines.csm.cpu.policy import Precision
from tts_provider.engines.csm.onnx.sessions import OnnxLanguage


def load_language(
    config: CsmConfig,
    weights: Mapping[str, np.ndarray],
    precision: Precision,
    slots: int,
    threads: int,
    on_progress: Callable[[str], None],
) -> Language:
    """The two transformers for `slots` streams."""
    on_progress("building the graphs for ONNX Runtime")
    return OnnxLanguage(config, weights, slots=slots, threads=threads)
