"""The CPU backend: ONNX Runtime sessions over KV buffers that are updated in place.

The rows that are in use stand side by side at the start of each KV buffer, so that a step is one
batch; when one leaves, the last takes its place. Buffers are allocated for every slot's full
length, but a page costs memory only when it is first written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from tts_provider.engines.csm.backend import Backend, Codes
from tts_provider.engines.csm.config import CsmConfig, MimiConfig, TransformerConfig
from tts_provider.engines.csm.onnx.language import build_backbone, build_depth, build_head, kv_names
from tts_provider.engines.csm.onnx.memory import forget_pages, give_back_freed, use_huge_pages
from tts_provider.engines.csm.onnx.mimi import MimiDecoder, MimiEncoder
from tts_provider.engines.csm.prompt import NO_TOKEN, Prompt
from tts_provider.engines.csm.sampling import Sampler

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Prefix:
    """What a slot had read: keys and values [kv_heads, frames, head_size] of every layer."""

    frames: int
    buffers: tuple[np.ndarray, ...]


class _Transformer:
    """A session and its KV buffers, run over the first rows of them or over one row."""

    def __init__(
        self,
        session: ort.InferenceSession,
        config: TransformerConfig,
        slots: int,
        positions: int,
        outputs: Mapping[str, int],
    ) -> None:
        self._session = session
        self._width = config.width
        self._outputs = outputs
        shape = (slots, config.kv_heads, positions, config.head_size)
        self._names = kv_names(config.layers)
        self.buffers = [np.zeros(shape, np.float32) for _ in self._names]
        self._bound: dict[tuple[int, int, int], _Run] = {}

    def run(self, x: np.ndarray, first_row: int, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """x [B, S, W] read by rows first_row … first_row + B, which hold `lengths` positions each.

        Returns the outputs, [B, …]; they are overwritten by the next run of the same shape.
        """
        rows, sequence, _ = x.shape
        run = self._bind(rows, sequence, first_row)
        run.x[:] = x
        run.last[:] = lengths + (sequence - 1)
        run.total[...] = lengths.max() + sequence
        self._session.run_with_iobinding(run.binding)
        return run.outputs

    def _bind(self, rows: int, sequence: int, first_row: int) -> _Run:
        key = (rows, sequence, first_row)
        if key not in self._bound:
            if sequence > 2:  # prompts come in many lengths: only steps are worth keeping
                return self._new_run(*key)
            self._bound[key] = self._new_run(*key)
        return self._bound[key]

    def _new_run(self, rows: int, sequence: int, first_row: int) -> _Run:
        run = _Run(
            self._session.io_binding(),
            np.empty((rows, sequence, self._width), np.float32),
            np.empty(rows, np.int32),
            np.empty((), np.int32),
            {name: np.empty((rows, width), np.float32) for name, width in self._outputs.items()},
        )
        for name, array in (
            ("x", run.x),
            ("last_position", run.last),
            ("total_positions", run.total),
        ):
            _bind(run.binding.bind_input, name, array)
        for name, array in run.outputs.items():
            _bind(run.binding.bind_output, name, array)
        for (past, present), buffer in zip(self._names, self.buffers, strict=True):
            view = buffer[first_row : first_row + rows]
            _bind(run.binding.bind_input, past, view)
            _bind(run.binding.bind_output, present, view)
        return run


@dataclass(frozen=True)
class _Run:
    binding: ort.IOBinding
    x: np.ndarray
    last: np.ndarray
    total: np.ndarray
    outputs: dict[str, np.ndarray]


def _bind(bind: object, name: str, array: np.ndarray) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)  # type: ignore[operator]


class OnnxBackend(Backend):
    device = "cpu"

    def __init__(
        self,
        config: CsmConfig,
        weights: Weights,
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
        # The codec has fewer codes than the model has entries: specials are never sampled.
        self._codes = min(mimi.codebook_size, config.audio_vocabulary)
        self._text_table = weights["embed_text_tokens"]
        self._audio_table = weights["backbone_model.embed_tokens.embed_audio_tokens"]
        self._depth_table = weights["depth_embeddings"]
        depth_positions = config.codebooks + 1
        self._depth = _Transformer(
            build_depth(config, weights, depth_positions).session(threads),
            config.depth,
            slots,
            depth_positions,
            {"hidden": config.depth.width},
        )
        use_huge_pages()  # the rest is read once a frame: not worth seconds of the start
        self._backbone = _Transformer(
            build_backbone(config, weights, self.positions).session(threads),
            config.backbone,
            slots,
            self.positions,
            {"logits": self._vocabulary, "projected": config.depth.width},
        )
        self._heads = [
            build_head(config, weights, book).session(threads)
            for book in range(1, config.codebooks)
        ]
        self._decoder = MimiDecoder(mimi, codec, slots, threads)
        forget_pages(codec.values())  # before the encoder's half of the file is read
        self._encoder = MimiEncoder(mimi, codec, threads)
        forget_pages(codec.values())
        give_back_freed()

        self._free = list(range(slots - 1, -1, -1))
        self._order: list[int] = []  # the slot of each row in use
        self._lengths = np.zeros(slots, np.int32)  # by slot
        self._next: dict[int, np.ndarray] = {}  # the frame a slot reads first in its next step
        self._logits = np.zeros((slots, self._vocabulary), np.float32)
        self._projected = np.zeros((slots, config.depth.width), np.float32)

    def acquire(self) -> int:
        slot = self._free.pop()
        self._order.append(slot)
        self._lengths[slot] = 0
        self._next.pop(slot, None)
        self._decoder.reset(slot)
        return slot

    def release(self, slot: int) -> None:
        row, last = self._order.index(slot), self._order.pop()
        if last != slot:
            self._order[row] = last
            length = self._lengths[last]
            for buffer in self._backbone.buffers:
                buffer[row, :, :length] = buffer[len(self._order), :, :length]
        self._free.append(slot)

    def prefill(self, slot: int, prompt: Prompt) -> None:
        outputs = self._backbone.run(
            self._embed(prompt)[None], self._order.index(slot), self._lengths[slot : slot + 1]
        )
        self._lengths[slot] += len(prompt)
        self._logits[slot] = outputs["logits"][0]
        self._projected[slot] = outputs["projected"][0]

    def step(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        self._read_frames([slot for slot in slots if slot in self._next])
        codes = self._run_depth(slots, samplers)
        for slot, frame in zip(slots, codes, strict=True):
            self._next[slot] = frame
        return codes

    def save_prefix(self, slot: int) -> Prefix:
        row, length = self._order.index(slot), int(self._lengths[slot])
        return Prefix(length, tuple(b[row, :, :length].copy() for b in self._backbone.buffers))

    def load_prefix(self, slot: int, prefix: Prefix) -> None:
        row = self._order.index(slot)
        for buffer, saved in zip(self._backbone.buffers, prefix.buffers, strict=True):
            buffer[row, :, : prefix.frames] = saved
        self._lengths[slot] = prefix.frames

    def decode(self, slots: Sequence[int], codes: Codes) -> np.ndarray:
        return self._decoder.decode(slots, codes.swapaxes(1, 2))

    def encode(self, samples: np.ndarray) -> Codes:
        return np.ascontiguousarray(self._encoder.encode(samples).T)

    def close(self) -> None:
        self._heads.clear()

    def _embed(self, prompt: Prompt) -> np.ndarray:
        """A prompt as the backbone's input, float32 [frames, W]."""
        x = np.empty((len(prompt), self._text_table.shape[1]), np.float32)
        for number, token in enumerate(prompt.tokens):
            if token == NO_TOKEN:
                x[number] = self._embed_frame(prompt.codes[number])
            else:
                x[number] = self._text_table[token]
        return x

    def _embed_frame(self, codes: np.ndarray) -> np.ndarray:
        rows = codes + self._vocabulary * np.arange(self.codebooks)
        total: np.ndarray = self._audio_table[rows].astype(np.float32).sum(0)
        return total

    def _read_frames(self, slots: Sequence[int]) -> None:
        """Let the backbone read the frames that the last step made."""
        if not slots:
            return
        # Every row up to the last one takes part; one that reads nothing writes beyond its length,
        # where its next frame will go.
        rows = 1 + max(self._order.index(slot) for slot in slots)
        batch = self._order[:rows]
        x = np.zeros((rows, 1, self._text_table.shape[1]), np.float32)
        for row, slot in enumerate(batch):
            if slot in slots:
                x[row, 0] = self._embed_frame(self._next.pop(slot))
        outputs = self._backbone.run(x, 0, self._lengths[batch])
        for row, slot in enumerate(batch):
            if slot in slots:
                self._lengths[slot] += 1
                self._logits[slot] = outputs["logits"][row]
                self._projected[slot] = outputs["projected"][row]

    def _run_depth(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        """Code 0 from the backbone's logits, the others one by one through the depth decoder."""
        rows = len(slots)
        codes = np.empty((rows, self.codebooks), np.int64)
        self._sample(self._logits[list(slots)], samplers, codes[:, 0])
        # The backbone's state and code 0 go in together: one reading of the weights for both.
        first = self._depth_table[codes[:, 0]].astype(np.float32)
        x = np.stack([self._projected[list(slots)], first], axis=1)  # [B, 2, depth W]
        for book in range(1, self.codebooks):
            length = 0 if book == 1 else book
            hidden = self._depth.run(x, 0, np.full(rows, length, np.int32))["hidden"]
            (logits,) = self._heads[book - 1].run(None, {"hidden": hidden})
            self._sample(logits, samplers, codes[:, book])
            x = self._depth_table[codes[:, book] + self._vocabulary * book].astype(np.float32)
            x = x[:, None]  # [B, 1, depth W]
        return codes

    def _sample(self, logits: np.ndarray, samplers: Sequence[Sampler], into: np.ndarray) -> None:
        for row, sampler in enumerate(samplers):
            into[row] = sampler.sample(logits[row, : self._codes])
