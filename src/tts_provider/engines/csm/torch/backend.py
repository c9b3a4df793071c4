"""The CUDA backend: a frame of all streams is two graphs, the codec's beside them in another lane.

The first graph speaks: code 0 and the 31 others, sampled, from each slot's hidden state. The second
lets the backbone read that frame; while it runs the codes are already on their way to the listener.
Everything runs on cpu too, without graphs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.backend import Backend, Codes
from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.prompt import Prompt
from tts_provider.engines.csm.sampling import NO_CODE, Sampler
from tts_provider.engines.csm.torch.device import plan_memory
from tts_provider.engines.csm.torch.graphs import Inbox, Lane, Outbox, buckets, fitting
from tts_provider.engines.csm.torch.mimi import (
    MOST_FRAMES,
    MimiDecoder,
    MimiEncoder,
    MimiWeights,
    ring_positions,
)
from tts_provider.engines.csm.torch.sampling import (
    NARROW_TOP_K,
    bound_inverse,
    candidates,
    noise,
    signed,
)
from tts_provider.engines.csm.torch.weights import Read, load_language
from tts_provider.errors import EngineFailed, InvalidRequest, StartupError

log = logging.getLogger(__name__)

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_SHORTEST_SPAN = 256
_WIDE_ROWS = 8
"""Rows of a long top-k in one run: every logit of theirs is sorted."""
_PIECES = [16, 32, 64]
"""Prompt positions read in one run."""
_CHUNKS = (MOST_FRAMES, 2, 1)
"""Frames of a row in one run of the codec: what the loop's chunks are made of."""
_CODEC_FRAMES = 256
"""Frames of all rows together in one run of the codec: an activation of theirs is 126 MB."""

# Columns of a step's row: its slot and how much it has read; then what sampling needs.
_SLOT, _LENGTH, _FRAME, _KEY, _TOP_K, _DEPTH_TOP_K = range(6)
# Float64, as their bits: one copy takes all columns. One over temperature, of code 0 and the rest.
_INVERSE, _DEPTH_INVERSE, _COLUMNS = 6, 7, 8
# Columns of a prompt's row: the first row's say where the prompt goes; then token and codes.
_COUNT, _TOKEN, _CODES = 2, 3, 4


@dataclass(frozen=True)
class Prefix:
    """What a slot had read: keys and values of every layer, and the answer to the last of it."""

    frames: int
    kv: Tensor  # [layers, 2, KV, frames, head]
    hidden: Tensor  # [W]


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """One sentence instead of a page. The streams concerned end, the others go on."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        log.warning("%s", error)
        raise EngineFailed("the GPU is out of memory; try again, or lower --max-streams") from None


class TorchBackend(Backend):
    def __init__(
        self,
        config: CsmConfig,
        read: Read,
        codec: Mapping[str, np.ndarray],
        mimi: MimiConfig,
        *,
        device: str,
        precision: str,
        slots: int,
        on_progress: Callable[[str], None],
    ) -> None:
        """`read` gives the canonical tensors. Fewer slots than asked for where memory is short.

        Raises `StartupError` where not even one stream fits.
        """
        self.device, self.precision = device, precision
        self.positions = config.positions
        self.codebooks = config.codebooks
        self.samples_per_frame = mimi.samples_per_frame
        self._device, dtype = torch.device(device), _DTYPES[precision]
        self.slots = self._plan(config, mimi, codec, dtype.itemsize, slots)
        try:
            on_progress(f"loading the weights in {precision}")
            with torch.no_grad():
                self._load(config, read, codec, mimi, dtype)
                on_progress("capturing graphs" if device == "cuda" else "warming up")
                self._capture(mimi)
        except torch.OutOfMemoryError as error:
            log.debug("%s", error)
            raise StartupError(
                "the GPU's memory ran out while the model was loaded; close what else uses it, "
                "lower --max-streams, or use --device cpu"
            ) from None

    def _plan(
        self,
        config: CsmConfig,
        mimi: MimiConfig,
        codec: Mapping[str, np.ndarray],
        item_bytes: int,
        wanted: int,
    ) -> int:
        if self._device.type != "cuda":
            return wanted
        codec_bytes = 4 * sum(array.size for array in codec.values())
        plan = plan_memory(config, mimi, codec_bytes, ring_positions(mimi), item_bytes)
        free, _ = torch.cuda.mem_get_info()
        fit = plan.streams(free)
        if fit < 1:
            what = "the model's weights do" if fit < 0 else "one stream does"
            raise StartupError(
                f"the GPU has too little memory: {what} not fit ({plan.describe(free)}); "
                "close what else uses it, or use --device cpu"
            )
        log.info("%d streams fit: %s", fit, plan.describe(free))
        if fit < wanted:
            log.warning("memory is for %d streams, not for --max-streams %d", fit, wanted)
        return min(fit, wanted)

    def _load(
        self,
        config: CsmConfig,
        read: Read,
        codec: Mapping[str, np.ndarray],
        mimi: MimiConfig,
        dtype: torch.dtype,
    ) -> None:
        device, slots = self._device, self.slots
        # The codec has fewer codes than the model has entries: specials are never sampled.
        self._codebook_size = codes = min(mimi.codebook_size, config.audio_vocabulary)
        self._backbone, self._depth = load_language(
            config, read, codes=codes, slots=slots, device=device, dtype=dtype
        )
        codec_weights = MimiWeights(mimi, codec, device)
        self._decoder = MimiDecoder(codec_weights, slots + 1)
        self._encoder = MimiEncoder(codec_weights)

        # First sound leaves first: the codec's few kernels go before the backbone's many.
        self._language, self._codec = Lane(device), Lane(device, priority=-1)
        self._rows = Inbox(slots, _COLUMNS, device)
        self._prompt = Inbox(_PIECES[-1], _CODES + self.codebooks, device)
        self._codec_rows = Inbox(slots, 2 + MOST_FRAMES * self.codebooks, device)
        # A row's frame, and 1 where its logits were finite: that travels with the codes.
        self._codes = torch.zeros((slots, self.codebooks + 1), dtype=torch.int64, device=device)
        most_samples = max(_CODEC_FRAMES, MOST_FRAMES) * self.samples_per_frame
        self._samples = torch.zeros(most_samples, device=device)
        self._codes_out = Outbox(self._codes.numel(), torch.int64, device)
        self._samples_out = Outbox(most_samples, torch.float32, device)

        self._buckets = buckets(slots)
        self._spans = [b for b in buckets(self.positions) if b >= _SHORTEST_SPAN] or [
            self.positions
        ]
        # By slot, the last being the scratch row: what its row of the inbox will be.
        self._table = np.zeros((slots + 1, _COLUMNS), np.int64)
        self._table[:, _SLOT] = np.arange(slots + 1)
        self._table[:, [_TOP_K, _DEPTH_TOP_K]] = 1
        self._frames = np.zeros(slots + 1, np.int64)  # that the codec has decoded
        self._free = list(range(slots - 1, -1, -1))

    def _capture(self, mimi: MimiConfig) -> None:
        """Every graph there will be; the largest first, so that the smaller ones fit in its memory.

        Only the scratch row is written meanwhile: all inboxes say so.
        """
        self._rows.put(np.repeat(self._table[-1:], self.slots, axis=0))
        prompt = np.zeros((_PIECES[-1], _CODES + self.codebooks), np.int64)
        prompt[:, [_SLOT, _COUNT]] = self.slots, 1
        self._prompt.put(prompt)
        codec_rows = np.zeros((self.slots, 2 + MOST_FRAMES * self.codebooks), np.int64)
        codec_rows[:, 0] = self.slots
        self._codec_rows.put(codec_rows)
        self._synchronize()
        self._speak_graphs, self._read_graphs, self._prompt_graphs = {}, {}, {}
        self._codec_graphs = {}
        for rows in reversed(self._buckets):
            speak = partial(self._speak, rows, NARROW_TOP_K)
            self._speak_graphs[rows] = self._language.capture(speak)
            for span in reversed(self._spans):
                read = partial(self._read, rows, span)
                self._read_graphs[rows, span] = self._language.capture(read)
        for piece in reversed(_PIECES):
            for span in reversed(self._spans):
                read = partial(self._read_prompt, piece, span)
                self._prompt_graphs[piece, span] = self._language.capture(read)
        with self._codec_precision():
            for frames in _CHUNKS:
                for rows in reversed(self._buckets):
                    if rows == 1 or rows * frames <= _CODEC_FRAMES:
                        decode = partial(self._decode, rows, frames)
                        self._codec_graphs[rows, frames] = self._codec.capture(decode)
        self._synchronize()

    # What the graphs hold: from fixed tensors to fixed tensors

    def _speak(self, rows: int, width: int) -> None:
        """A frame of each row; `width` bounds top-k."""
        table = self._rows.tensor[:rows]
        inverses = table[:, _INVERSE:].view(torch.float64).float()  # [rows, 2]
        first, others = (candidates(table[:, column], width) for column in (_TOP_K, _DEPTH_TOP_K))
        draws = noise(table[:, _KEY], table[:, _FRAME], self.codebooks, self._codebook_size)
        hidden = self._backbone.hidden[table[:, _SLOT]]
        codes, is_finite = self._depth.speak(hidden, draws, (first, others), inverses)
        self._codes[:rows, :-1], self._codes[:rows, -1] = codes, is_finite

    def _read(self, rows: int, span: int) -> None:
        """The backbone reads the frames that were spoken last."""
        table = self._rows.tensor[:rows]
        x = self._backbone.embed_frames(self._codes[:rows, :-1])[:, None]  # [rows, 1, W]
        slots, lengths = table[:, _SLOT], table[:, _LENGTH]
        self._backbone.read(x, slots, lengths, torch.ones_like(slots), span)

    def _read_prompt(self, piece: int, span: int) -> None:
        prompt = self._prompt.tensor[:piece]
        x = self._backbone.embed(prompt[:, _TOKEN], prompt[:, _CODES:])[None]  # [1, piece, W]
        where = prompt[:1]
        self._backbone.read(x, where[:, _SLOT], where[:, _LENGTH], where[:, _COUNT], span)

    def _decode(self, rows: int, frames: int) -> None:
        table = self._codec_rows.tensor[:rows]
        codes = table[:, 2 : 2 + frames * self.codebooks].unflatten(1, (frames, self.codebooks))
        samples = self._decoder.run(table[:, 0], table[:, 1], codes)
        self._samples[: samples.numel()].copy_(samples.flatten())

    # The contract

    def load_adapter(self, adapter: LowRank) -> Any:
        raise InvalidRequest(
            "voices cannot have an adapter on CUDA; start a server for it, with --adapter",
            code="adapter_unsupported",
            param="voice",
        )

    def acquire(self, adapter: Any = None) -> int:
        slot = self._free[-1]
        with torch.no_grad(), self._codec.active():
            self._decoder.reset(slot)
        with torch.no_grad(), self._language.active():
            self._backbone.reset(slot)
        self._table[slot, _LENGTH:] = 0
        self._frames[slot] = 0
        return self._free.pop()

    def release(self, slot: int) -> None:
        self._free.append(slot)

    @torch.no_grad()
    def prefill(self, slot: int, prompt: Prompt) -> None:
        for start in range(0, len(prompt), _PIECES[-1]):
            piece = prompt.piece(start, start + _PIECES[-1])
            count, length = len(piece), int(self._table[slot, _LENGTH])
            rows = np.zeros((count, _CODES + self.codebooks), np.int64)
            rows[:, _SLOT], rows[:, _LENGTH], rows[:, _COUNT] = slot, length, count
            rows[:, _TOKEN], rows[:, _CODES:] = piece.tokens, piece.codes
            with _memory_errors(), self._language.active():
                self._prompt.put(rows)
                span = fitting(self._spans, length + count)
                self._prompt_graphs[fitting(_PIECES, count), span]()
            self._table[slot, _LENGTH] += count

    @torch.no_grad()
    def step(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        codes = np.empty((len(slots), self.codebooks), np.int64)
        for slot, sampler in zip(slots, samplers, strict=True):
            self._set_sampler(slot, sampler)
        index = np.array(slots, np.int64)
        is_wide = self._table[index][:, [_TOP_K, _DEPTH_TOP_K]].max(1) > NARROW_TOP_K
        narrow, wide = np.flatnonzero(~is_wide), np.flatnonzero(is_wide)
        groups = [(narrow, True)] if len(narrow) else []
        groups += [(wide[i : i + _WIDE_ROWS], False) for i in range(0, len(wide), _WIDE_ROWS)]
        for group, captured in groups:
            with _memory_errors(), self._language.active():
                codes[group] = self._step(index[group], captured=captured)
        for sampler in samplers:
            sampler.frames += 1
        return codes

    def _step(self, slots: np.ndarray, *, captured: bool) -> np.ndarray:
        """One frame for slots whose top-k the graphs can draw, or for a few others."""
        rows = fitting(self._buckets, len(slots))
        padded = np.full(rows, self.slots)
        padded[: len(slots)] = slots
        self._rows.put(self._table[padded])
        if captured:
            self._speak_graphs[rows]()
        else:
            self._speak(rows, int(self._table[slots][:, [_TOP_K, _DEPTH_TOP_K]].max()))
        receive = self._codes_out.send(self._codes[: len(slots)])
        # A slot that is full reads over its last position; nobody asks it for another frame.
        span = fitting(self._spans, min(int(self._table[slots, _LENGTH].max()) + 1, self.positions))
        self._read_graphs[rows, span]()
        self._table[slots, _LENGTH] += 1
        frames = receive()
        frames[frames[:, -1] == 0] = NO_CODE
        return frames[:, :-1]

    def _set_sampler(self, slot: int, sampler: Sampler) -> None:
        row = self._table[slot]
        row[_FRAME], row[_KEY] = sampler.frames, signed(sampler.key)
        for book, top_k_at, inverse_at in (
            (0, _TOP_K, _INVERSE),
            (1, _DEPTH_TOP_K, _DEPTH_INVERSE),
        ):
            temperature, top_k = sampler.of_book(book)
            row[top_k_at] = 1 if temperature == 0 else min(top_k, self._codebook_size)
            row[inverse_at] = np.float64(bound_inverse(temperature)).view(np.int64)

    @torch.no_grad()
    def save_prefix(self, slot: int) -> Prefix:
        length = int(self._table[slot, _LENGTH])
        with _memory_errors(), self._language.active():
            kv = self._backbone.kv[:, slot, :, :, :length].clone()
            return Prefix(length, kv, self._backbone.hidden[slot].clone())

    @torch.no_grad()
    def load_prefix(self, slot: int, prefix: Prefix) -> None:
        with self._language.active():
            self._backbone.kv[:, slot, :, :, : prefix.frames].copy_(prefix.kv)
            self._backbone.hidden[slot].copy_(prefix.hidden)
        self._table[slot, _LENGTH] = prefix.frames

    @torch.no_grad()
    def decode(self, slots: Sequence[int], codes: Codes) -> np.ndarray:
        out = np.empty((len(slots), codes.shape[1] * self.samples_per_frame), np.float32)
        index, start = np.array(slots, np.int64), 0
        while start < codes.shape[1]:
            left = codes.shape[1] - start
            frames = next(size for size in _CHUNKS if size <= left)
            most = max(bucket for bucket, size in self._codec_graphs if size == frames)
            for first in range(0, len(index), most):
                part = slice(first, first + most)
                samples = self._decode_rows(index[part], codes[part, start : start + frames])
                begin = start * self.samples_per_frame
                out[part, begin : begin + samples.shape[1]] = samples
            start += frames
        return out

    def _decode_rows(self, slots: np.ndarray, codes: Codes) -> np.ndarray:
        frames = codes.shape[1]
        rows = fitting(self._buckets, len(slots))
        table = np.zeros((rows, 2 + MOST_FRAMES * self.codebooks), np.int64)
        table[:, 0] = self.slots
        table[: len(slots), 0], table[: len(slots), 1] = slots, self._frames[slots]
        table[: len(slots), 2 : 2 + frames * self.codebooks] = codes.reshape(len(slots), -1)
        size = frames * self.samples_per_frame
        with _memory_errors(), self._codec.active():
            self._codec_rows.put(table)
            self._codec_graphs[rows, frames]()
            result = self._samples[: len(slots) * size].view(len(slots), size)
            samples = self._samples_out.send(result)()
        self._frames[slots] += frames
        return samples

    @torch.no_grad()
    def encode(self, samples: np.ndarray) -> Codes:
        if not len(samples):
            return np.zeros((0, self.codebooks), np.int64)
        with _memory_errors(), _tf32(self._device, allowed=False), self._codec.active():
            waves = torch.from_numpy(np.array(samples, np.float32)).to(self._device)
            return np.ascontiguousarray(self._encoder.run(waves).t().cpu().numpy())

    def close(self) -> None:
        self._synchronize()
        device = self._device
        vars(self).clear()  # weights, buffers and graphs: PyTorch gives back what nobody has
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _codec_precision(self) -> contextlib.AbstractContextManager[None]:
        """The codec is float32 in any case, in TF32 where the model is not exact either."""
        return _tf32(self._device, allowed=self.precision != "float32")

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


@contextlib.contextmanager
def _tf32(device: torch.device, *, allowed: bool) -> Iterator[None]:
    """Both switches are the process's, so they are put back."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
