"""The contract of CSM's two transformers on a CPU: what ONNX Runtime and our kernels fulfil."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tts_provider.engines.csm.adapters.low_rank import LowRank


class Language(ABC):
    """The backbone with its KV buffers, and the depth decoder, which starts anew in every frame.

    Batch is B, sequence S, width W. Results are overwritten by the next call of the same kind.
    """

    kv: Sequence[np.ndarray]
    """The backbone's keys and values, [slots, kv_heads, positions, head_size] each."""

    @abstractmethod
    def load_adapter(self, adapter: LowRank) -> Any:
        """What `adapters` has below for a row that speaks with it. From any thread.

        Raises `InvalidRequest` where this one speaks with none.
        """

    @abstractmethod
    def read(
        self, x: np.ndarray, first_row: int, lengths: np.ndarray, adapters: Sequence[Any] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """x [B, S, W] into the buffers' rows from `first_row` on, which hold `lengths` [B]
        positions → logits [B, codes] of code 0, and the depth decoder's first input, [B, depth W].
        `adapters` are the rows', None for a row without; empty where no row has one.
        """

    @abstractmethod
    def speak(self, x: np.ndarray, codebook: int, adapters: Sequence[Any] = ()) -> np.ndarray:
        """x [B, S, depth W] → logits [B, codes] of `codebook`, from 1 on. A frame begins with
        codebook 1, whose x has two positions: the backbone's state and code 0."""

    @abstractmethod
    def close(self) -> None:
        """Give back threads; nothing else may be called afterwards."""
