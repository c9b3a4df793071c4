"""The contract of CSM's two transformers on a CPU, which ONNX Runtime and our kernels fulfill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.sampling import Sampler


@dataclass(frozen=True)
class Frame:
    """What it takes to make one frame of each row. A row that reads has the codes of its last frame
    in `read`; the others have what the backbone said, in `logits` and `projected`."""

    rows: Sequence[int]
    """Of the KV buffers."""
    lengths: np.ndarray
    """int32, by row of the buffers: how many positions each holds, whether it takes part or not."""
    read: Sequence[np.ndarray | None]  # [B], (codebooks,) each
    logits: np.ndarray  # [B, codes], of code 0
    projected: np.ndarray  # [B, depth W]
    samplers: Sequence[Sampler]
    choices: int
    """So many codes, from the first on, may be drawn."""
    adapters: Sequence[Any] = ()
    """The rows', None for a row without; empty where no row has one."""


class Language(ABC):
    """The backbone with its KV buffers, and the depth decoder, which starts anew in every frame.

    Batch is B, sequence S, width W. Results are overwritten by the next call of the same kind.
    """

    cuts_freely = False
    """Whether a prompt in pieces of any length says the same, to the bit."""
    is_compact = False
    """Whether rows in use must stand side by side, from the first one on."""
    kv: Sequence[np.ndarray]
    """The backbone's keys and values, [slots, kv_heads, positions, head_size] each."""
    no_adapters: str | None = None
    """Why no row can have an adapter, a clause; None where it can."""

    @abstractmethod
    def load_adapter(self, adapter: LowRank) -> Any:
        """What `adapters` has below for a row that speaks with it. From any thread."""

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
    def frame(self, frame: Frame) -> np.ndarray:
        """The next codes of each row, int64 [B, codebooks]; `NO_CODE` throughout where logits were
        not finite. Rows that read hold one position more afterwards."""

    @abstractmethod
    def forget(self, row: int) -> None:
        """Give back the memory of an unused row of the buffers."""

    @abstractmethod
    def close(self) -> None:
        """Free threads. Nothing else may be called afterwards."""
