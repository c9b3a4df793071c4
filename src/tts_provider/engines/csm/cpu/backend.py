"""The CPU backend: the language model by our kernels or ONNX Runtime, the codec by ONNX Runtime.

On ONNX Runtime the rows that are in use stand side by side at the start of each KV buffer, so that
a step is one batch; when one leaves, the last takes its place. Buffers are allocated for every
slot's full length, but a page costs memory only when it is first written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.backend import Backend, Codes
from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.cpu.language import Frame, Language
from tts_provider.engines.csm.cpu.stepwise import AUDIO_TABLE
from tts_provider.engines.csm.onnx.mimi import MimiDecoder, MimiEncoder
from tts_provider.engines.csm.prompt import NO_TOKEN, Prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.memory import forget_pages, give_back_freed

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Prefix:
    """What a slot had read: keys and values [kv_heads, frames, head_size] of every layer."""

    frames: int
    buffers: tuple[np.ndarray, ...]

    @property
    def size_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers)


class CpuBackend(Backend):
    device = "cpu"

    def __init__(
        self,
        config: CsmConfig,
        weights: Weights,
        language: Language,
        codec: Weights,
        mimi: MimiConfig,
        *,
        precision: str,
        slots: int,
        threads: int,
    ) -> None:
        self.precision = precision
        self.slots = slots
        self.positions = config.positions
        self.codebooks = config.codebooks
        self.samples_per_frame = mimi.samples_per_frame
        self._vocabulary = config.audio_vocabulary
        # The codec has fewer codes than the model has entries; special ones are never sampled.
        self._choices = min(mimi.codebook_size, config.audio_vocabulary)
        self._text_table = weights["embed_text_tokens"]
        self._audio_table = weights[AUDIO_TABLE]
        self._language = language
        self.no_adapters = language.no_adapters
        self.cuts_freely = language.cuts_freely
        self._decoder = MimiDecoder(mimi, codec, slots, threads)
        forget_pages(codec.values())  # before the encoder's half of the file is read
        self._encoder = MimiEncoder(mimi, codec, threads)
        forget_pages(codec.values())
        give_back_freed()

        self._free = list(range(slots - 1, -1, -1))
        self._order: list[int] = []  # the slot of each row in use
        self._lengths = np.zeros(slots, np.int32)  # by slot
        self._adapters: list[Any] = [None] * slots  # by slot
        self._next: dict[int, np.ndarray] = {}  # the frame a slot reads first in its next step
        self._logits = np.zeros((slots, self._vocabulary), np.float32)
        self._projected = np.zeros((slots, config.depth.width), np.float32)

    def load_adapter(self, adapter: LowRank) -> Any:
        return self._language.load_adapter(adapter)

    def acquire(self, adapter: Any = None) -> int:
        slot = self._free[-1]
        self._decoder.reset(slot)
        self._lengths[slot] = 0
        self._logits[slot] = 0
        self._next.pop(slot, None)
        self._adapters[slot] = adapter
        self._order.append(self._free.pop())
        return slot

    def release(self, slot: int) -> None:
        row, last = self._order.index(slot), self._order[-1]
        if last != slot and self._language.is_compact:
            length = self._lengths[last]
            for buffer in self._language.kv:
                buffer[row, :, :length] = buffer[len(self._order) - 1, :, :length]
        self._order[row] = last
        self._order.pop()
        self._language.forget(len(self._order) if self._language.is_compact else slot)
        self._adapters[slot] = None
        self._free.append(slot)

    def prefill(self, slot: int, prompt: Prompt) -> None:
        logits, projected = self._language.read(
            self._embed(prompt)[None],
            self._row(slot),
            self._lengths[slot : slot + 1],
            self._adapters_of([slot]),
        )
        self._lengths[slot] += len(prompt)
        # Once they are not finite they stay so, whatever a later piece of the prompt does.
        self._logits[slot] = logits[0] + 0 * self._logits[slot]
        self._projected[slot] = projected[0]

    def step(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        read = [self._next.pop(slot, None) for slot in slots]
        frame = Frame(
            rows=[self._row(slot) for slot in slots],
            lengths=self._lengths_by_row(),
            read=read,
            logits=self._logits[list(slots)],
            projected=self._projected[list(slots)],
            samplers=samplers,
            choices=self._choices,
            adapters=self._adapters_of(slots),
        )
        codes = self._language.frame(frame)
        for slot, sampler, was_read, made in zip(slots, samplers, read, codes, strict=True):
            self._lengths[slot] += was_read is not None
            self._next[slot] = made
            sampler.frames += 1
        return codes

    def save_prefix(self, slot: int) -> Prefix:
        row, length = self._row(slot), int(self._lengths[slot])
        return Prefix(length, tuple(b[row, :, :length].copy() for b in self._language.kv))

    def load_prefix(self, slot: int, prefix: Prefix) -> None:
        row = self._row(slot)
        for buffer, saved in zip(self._language.kv, prefix.buffers, strict=True):
            buffer[row, :, : prefix.frames] = saved
        self._lengths[slot] = prefix.frames

    def decode(self, slots: Sequence[int], codes: Codes) -> np.ndarray:
        return self._decoder.decode(slots, codes.swapaxes(1, 2))

    def encode(self, samples: np.ndarray) -> Codes:
        return np.ascontiguousarray(self._encoder.encode(samples).T)

    def close(self) -> None:
        self._language.close()

    def _embed(self, prompt: Prompt) -> np.ndarray:
        """A prompt as the backbone's input, float32 [frames, W]."""
        x = np.empty((len(prompt), self._text_table.shape[1]), np.float32)
        for number, token in enumerate(prompt.tokens):
            if token == NO_TOKEN:
                rows = prompt.codes[number] + self._vocabulary * np.arange(self.codebooks)
                x[number] = self._audio_table[rows].astype(np.float32).sum(0)
            else:
                x[number] = self._text_table[token]
        return x

    def _adapters_of(self, slots: Sequence[int]) -> list[Any]:
        adapters = [self._adapters[slot] for slot in slots]
        return [] if all(adapter is None for adapter in adapters) else adapters

    def _row(self, slot: int) -> int:
        return self._order.index(slot) if self._language.is_compact else slot

    def _lengths_by_row(self) -> np.ndarray:
        return self._lengths[self._order] if self._language.is_compact else self._lengths
