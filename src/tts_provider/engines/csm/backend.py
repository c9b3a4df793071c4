"""The contract that the CPU and the CUDA backend fulfill.

A backend owns a fixed number of slots. A slot is a row of KV cache, a row of codec state and the
model's answer to what the slot read last. Joining or leaving never changes what another slot says.
Any of its methods may raise `DeviceLost` or `OutOfMemory`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.prompt import Prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed

Codes = npt.NDArray[np.int64]


class DeviceLost(Exception):
    """The backend's device has stopped working and does not come back in this process."""


class OutOfMemory(EngineFailed):
    """There was not enough memory now; a smaller request, or the same one later, may work."""


class Backend(ABC):
    device: str
    precision: str
    slots: int
    positions: int
    """Frames a slot can hold, prompt and reply together."""
    codebooks: int
    samples_per_frame: int
    no_adapters: str | None = None
    """Why no stream can speak with an adapter here, a clause; None where it can."""
    cuts_freely = False
    """Whether a prompt in pieces of any length says the same, to the bit."""

    @abstractmethod
    def load_adapter(self, adapter: LowRank) -> Any:
        """What `acquire` takes for a stream that speaks with this adapter; it has `size_bytes`, and
        its memory is given back with the last who holds it. From any thread, also during a step.
        """

    @abstractmethod
    def acquire(self, adapter: Any = None) -> int:
        """A free slot, empty, that speaks with the adapter until it is released. There must be one.
        Where it raises, none is taken."""

    @abstractmethod
    def release(self, slot: int) -> None:
        """Give the slot back; what it held is forgotten. Where it raises, the slot is still held
        and may be released again."""

    @abstractmethod
    def prefill(self, slot: int, prompt: Prompt) -> None:
        """Read the next piece of a prompt into the slot."""

    def groups(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> list[list[int]]:
        """Which of the rows, by their number, are computed together: a step is asked of each group,
        and one that fails takes no other with it."""
        return [list(range(len(slots)))]

    @abstractmethod
    def step(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        """One 80 ms frame for every slot given: codes (slots, codebooks). The frame is what the
        slot reads first in its next step, and its sampler's `frames` is one more. It is `NO_CODE`
        throughout where logits were not finite: such a slot is of no use until it is released."""

    @abstractmethod
    def save_prefix(self, slot: int) -> Any:
        """What the slot has read, to start other slots from; it has `size_bytes`. Where it raises,
        the slot goes on."""

    @abstractmethod
    def load_prefix(self, slot: int, prefix: Any) -> None:
        """Let an empty slot start from a saved prefix."""

    @abstractmethod
    def decode(self, slots: Sequence[int], codes: Codes) -> npt.NDArray[np.float32]:
        """Codes (slots, frames, codebooks) → the slots' next samples, (slots, samples)."""

    @abstractmethod
    def encode(self, samples: npt.NDArray[np.float32]) -> Codes:
        """24 kHz samples (n,) → codes (frames, codebooks). From any thread, also during a step."""

    @abstractmethod
    def close(self) -> None:
        """Give back memory and threads."""
