"""The CUDA backend: a frame of all streams is two graphs, the codec's beside them in another lane.

The first graph speaks: code 0 and the 31 others, sampled, from each slot's hidden state. The second
lets the backbone read that frame; while it runs the codes are already on their way to the listener.
Everything runs on cpu too, without graphs.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.backend import Backend, Codes, DeviceLost, OutOfMemory
from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.prompt import Prompt
from tts_provider.engines.csm.sampling import NO_CODE, Sampler
from tts_provider.engines.csm.torch import language
from tts_provider.engines.csm.torch.adapters import (
    BatchAdapters,
    RowAdapters,
    TorchAdapter,
)
from tts_provider.engines.csm.torch.device import (
    MemoryPlan,
    codec_bytes,
    is_about_memory,
    plan_memory,
)
from tts_provider.engines.csm.torch.graphs import (
    Inbox,
    Lane,
    Outbox,
    buckets,
    first_line,
    fitting,
    no_garbage_collection,
)
from tts_provider.engines.csm.torch.kernels import KernelDraws, gate, turn, why_not
from tts_provider.engines.csm.torch.mimi import (
    MOST_FRAMES,
    MimiDecoder,
    MimiEncoder,
    MimiWeights,
    ring_positions,
)
from tts_provider.engines.csm.torch.sampling import (
    NARROW_TOP_K,
    Draws,
    NoiseDraws,
    bound_inverse,
    candidates,
    noise,
    signed,
    silu_gate,
)
from tts_provider.engines.csm.torch.weights import Read, load_adapter, load_language
from tts_provider.errors import EngineFailed, StartupError

log = logging.getLogger(__name__)

Replay = Callable[[], None]

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_SHORTEST_SPAN = 256
_WIDE_ROWS = 8
"""Rows of a long top-k in one run, of which every logit is sorted: they are rare."""
_PIECES = [16, 32, 64]
"""Prompt positions read in one run."""
_BATCHES_KEPT = 4
"""Batches of adapters: one that speaks, and the prompts read between two of its steps; with a fixed
batch each stream that speaks is one."""
_CHUNKS = (MOST_FRAMES, 2, 1)
"""Frames of a row in one run of the codec: what the loop's chunks are made of."""
_CODEC_FRAMES = 256  # device.py counts their memory
"""Frames of all rows together in one run of the codec: an activation of theirs is 126 MB."""
_LONGEST_RECORDING_FRAMES = 750
"""A minute: what is encoded once before memory is counted."""

# Columns of a step's row: its slot and how much it has read; then what sampling needs.
_SLOT, _LENGTH, _FRAME, _KEY, _TOP_K, _DEPTH_TOP_K = range(6)
# Float64, as their bits, so that one copy takes all columns: 1 / temperature, of code 0 and of the
# others.
_INVERSE, _DEPTH_INVERSE, _COLUMNS = 6, 7, 8
# Columns of a prompt's row: the first row's say where the prompt goes; then token and codes.
_COUNT, _TOKEN, _CODES = 2, 3, 4


@dataclass(frozen=True)
class Prefix:
    """What a slot had read: keys and values of every layer, and the answer to the last of it."""

    frames: int
    kv: Tensor  # [layers, 2, KV, frames, head]
    hidden: Tensor  # [W]

    @property
    def size_bytes(self) -> int:
        return self.kv.nbytes + self.hidden.nbytes


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
        use_graphs: bool = True,
        fixed_batch: bool = False,
        use_kernels: bool = True,
        on_progress: Callable[[str], None],
    ) -> None:
        """`read` gives the canonical tensors. Fewer slots than asked for where memory is short.
        Without graphs each of some 2 000 kernels of a frame is started by itself. With a fixed
        batch every row computes as in a full one, so that its codes are the same in any company.

        Raises `StartupError` where not even one stream fits.
        """
        self.device, self.precision, self._use_graphs = device, precision, use_graphs
        self.positions = config.positions
        self.codebooks = config.codebooks
        self.samples_per_frame = mimi.samples_per_frame
        self._fixed_batch = fixed_batch
        self._use_kernels = use_kernels and self._has_kernels(torch.device(device))
        self._config = config
        self._device, self._dtype = torch.device(device), _DTYPES[precision]
        dtype = self._dtype
        plan = plan_memory(config, mimi, codec_bytes(codec), ring_positions(mimi), dtype.itemsize)
        most = self._plan(plan, slots)
        try:
            on_progress(f"loading the weights in {precision}")
            with torch.no_grad():
                self._load(config, read, codec, mimi, dtype)
                self.slots = self._try_out(plan, most, slots)
                self._reserve(self.slots, self.slots)
                on_progress("capturing graphs" if device == "cuda" else "warming up")
                self._capture()
        except torch.OutOfMemoryError as error:
            log.debug("%s", error)
            raise StartupError(
                "the GPU's memory ran out while the model was loaded; close what else uses it, "
                "lower --max-streams, or use --device cpu"
            ) from None

    def _has_kernels(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return False
        if (reason := why_not(device)) is not None:
            log.warning("PyTorch's kernels are used instead of ours for CUDA: %s", reason)
        return reason is None

    def _free_bytes(self) -> int | None:
        """Of the device's memory, what nobody has; None where nobody counts it."""
        return torch.cuda.mem_get_info()[0] if self._device.type == "cuda" else None

    def _plan(self, plan: MemoryPlan, wanted: int) -> int:
        """How many streams there will be at most. Raises `StartupError` where there is none."""
        free = self._free_bytes()
        if free is None:
            return wanted
        if (reason := plan.why_too_little(free)) is not None:
            raise StartupError(f"{reason}; close what else uses the GPU, or use --device cpu")
        return min(plan.streams(free), wanted)

    def _try_out(self, plan: MemoryPlan, most: int, wanted: int) -> int:
        """How many streams there is memory for, when all that works has had what it takes.

        Everything runs once, as large as it will, before slots are taken: kernels are loaded when
        they first run, libraries take room to work, and what they leave is counted, not guessed.
        """
        if self._free_bytes() is None:
            return most
        while not self._runs_all(most):
            most = -(-most // 2)
        free = self._free_bytes()
        assert free is not None
        fit = plan.streams_beside_all(free)
        if fit < 1:
            raise StartupError(
                f"the GPU has too little memory: no stream fits ({plan.describe(free)} with "
                "everything loaded); close what else uses it, or use --device cpu"
            )
        log.info("%d streams fit: %s", fit, plan.describe(free))
        if fit < wanted:
            log.warning("memory is for %d streams, not for --max-streams %d", fit, wanted)
        torch.cuda.empty_cache()  # graphs have memory of their own
        return min(fit, most)

    def _runs_all(self, rows: int) -> bool:
        """Whether there is memory for so many rows at once. Raises where one row is too many."""
        try:
            self._reserve(0, rows)
            self._run_all()
            self._synchronize()
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
            return False
        return True

    def _load(
        self,
        config: CsmConfig,
        read: Read,
        codec: Mapping[str, np.ndarray],
        mimi: MimiConfig,
        dtype: torch.dtype,
    ) -> None:
        device = self._device
        # The codec has fewer codes than the model has entries: specials are never sampled.
        self._codebook_size = codes = min(mimi.codebook_size, config.audio_vocabulary)
        self._backbone, self._depth = load_language(
            config,
            read,
            codes=codes,
            slots=0,
            device=device,
            dtype=dtype,
            gate=gate if self._use_kernels else silu_gate,
            turn=turn if self._use_kernels else language.turn,
        )
        codec_weights = MimiWeights(mimi, codec, device)
        self._decoder = MimiDecoder(codec_weights, 1)
        self._encoder = MimiEncoder(codec_weights)

        exact = self.precision == "float32"
        self._language = Lane(device, exact=exact, use_graphs=self._use_graphs)
        # First sound leaves first: the codec's few kernels go before the backbone's many. It is
        # float32 in any case, in TF32 where the model is not exact either.
        self._codec = Lane(device, priority=-1, exact=exact, use_graphs=self._use_graphs)
        # A voice that is new holds up nobody's sound. What it encodes to must be exact.
        self._encoding = Lane(device)
        self._encodes = threading.Lock()

    def _reserve(self, slots: int, rows: int) -> None:
        """The memory of so many slots, and of all that computes up to so many rows at once."""
        device = self._device
        self.slots = slots
        self._backbone.reserve(slots)
        self._decoder.reserve(slots + 1)
        self._rows = Inbox(rows, _COLUMNS, device)
        self._prompt = Inbox(_PIECES[-1], _CODES + self.codebooks, device)
        self._codec_rows = Inbox(rows, 2 + MOST_FRAMES * self.codebooks, device)
        # A row's frame, and 1 where its logits were finite: that travels with the codes.
        self._codes = torch.zeros((rows, self.codebooks + 1), dtype=torch.int64, device=device)
        most_samples = max(_CODEC_FRAMES, MOST_FRAMES) * self.samples_per_frame
        self._samples = torch.zeros(most_samples, device=device)
        self._codes_out = Outbox(self._codes.numel(), torch.int64, device)
        self._samples_out = Outbox(most_samples, torch.float32, device)

        spans = [b for b in buckets(self.positions) if b >= _SHORTEST_SPAN] or [self.positions]
        # The same kernels whoever else speaks: every batch, piece and span is the largest.
        sizes: Callable[[list[int]], list[int]] = (
            (lambda sizes: sizes[-1:]) if self._fixed_batch else (lambda sizes: sizes)
        )
        self._spans, self._pieces, self._buckets = (
            sizes(spans),
            sizes(_PIECES),
            sizes(buckets(rows)),
        )
        self._wide_buckets = sizes(buckets(min(rows, _WIDE_ROWS)))
        self._codec_buckets = {
            frames: sizes(buckets(min(rows, _CODEC_FRAMES // frames))) for frames in _CHUNKS
        }
        # By slot, the last being the scratch row: what its row of the inbox will be.
        self._table = np.zeros((slots + 1, _COLUMNS), np.int64)
        self._table[:, _SLOT] = np.arange(slots + 1)
        self._table[:, [_TOP_K, _DEPTH_TOP_K]] = 1
        self._frames = np.zeros(slots + 1, np.int64)  # that the codec has decoded
        self._adapters: list[TorchAdapter | None] = [None] * slots
        # By the adapters' ids, of the batches and prompts that were read last.
        self._batch_adapters: dict[tuple[int, ...], BatchAdapters] = {}
        # A heap: who comes takes the lowest, so that slots in use are side by side.
        self._free = list(range(slots))
        self._point_at_scratch(rows)

    def _point_at_scratch(self, rows: int) -> None:
        """Nothing but the scratch row is written while graphs are made: all inboxes say so."""
        self._rows.put(np.repeat(self._table[-1:], rows, axis=0))
        prompt = np.zeros((_PIECES[-1], _CODES + self.codebooks), np.int64)
        prompt[:, [_SLOT, _COUNT]] = self.slots, 1
        self._prompt.put(prompt)
        codec_rows = np.zeros((rows, 2 + MOST_FRAMES * self.codebooks), np.int64)
        codec_rows[:, 0] = self.slots
        self._codec_rows.put(codec_rows)
        self._synchronize()

    def _run_all(self) -> None:
        """What takes the most memory of each kind."""
        rows, span = self._buckets[-1], self._spans[-1]
        for work in (
            partial(self._speak, rows, NARROW_TOP_K),
            partial(self._speak, self._wide_buckets[-1], self._codebook_size),
            partial(self._read, rows, span),
            partial(self._read_prompt, _PIECES[-1], span),
        ):
            self._language.run(work)
        for frames, sizes in self._codec_buckets.items():
            self._codec.run(partial(self._decode, sizes[-1], frames))
        silence = np.zeros(_LONGEST_RECORDING_FRAMES * self.samples_per_frame, np.float32)
        self._encoding.run(partial(self._encode, silence))

    def _capture(self) -> None:
        """Every graph there will be; the largest first, so that the smaller ones fit in its memory.

        Only the scratch row is written meanwhile.
        """
        # By rows, or positions of a prompt, and by span or frames.
        self._speak_graphs: dict[int, Replay] = {}
        self._wide_graphs: dict[int, Replay] = {}
        self._read_graphs: dict[tuple[int, int], Replay] = {}
        self._in_place_graphs: dict[tuple[int, int], Replay] = {}
        self._prompt_graphs: dict[tuple[int, int], Replay] = {}
        self._codec_graphs: dict[tuple[int, int], Replay] = {}
        with no_garbage_collection():
            self._capture_language()
            self._capture_codec()
        self._synchronize()

    def _capture_language(self) -> None:
        capture = self._language.capture
        for rows in reversed(self._buckets):
            speak = partial(self._speak, rows, NARROW_TOP_K)
            self._speak_graphs[rows] = capture(f"a frame of {rows} streams", speak)
            for span in reversed(self._spans):
                read = partial(self._read, rows, span)
                name = f"{rows} streams that read a frame, {span} positions"
                self._read_graphs[rows, span] = capture(name, read)
                if not self._fixed_batch:
                    read = partial(self._read, rows, span, in_place=True)
                    self._in_place_graphs[rows, span] = capture(f"{name}, in place", read)
        for rows in reversed(self._wide_buckets):
            speak = partial(self._speak, rows, self._codebook_size)
            name = f"a frame of {rows} streams with a long top-k"
            self._wide_graphs[rows] = capture(name, speak)
        for piece in reversed(self._pieces):
            for span in reversed(self._spans):
                read = partial(self._read_prompt, piece, span)
                name = f"{piece} positions of a prompt, {span} in all"
                self._prompt_graphs[piece, span] = capture(name, read)

    def _capture_codec(self) -> None:
        for frames, sizes in self._codec_buckets.items():
            for rows in reversed(sizes):
                name = f"the sound of {rows} streams, {frames} frames"
                decode = partial(self._decode, rows, frames)
                self._codec_graphs[rows, frames] = self._codec.capture(name, decode)

    # What the graphs hold: from fixed tensors to fixed tensors

    def _speak(self, rows: int, width: int, adapters: RowAdapters | None = None) -> None:
        """A frame of each row; `width` bounds top-k."""
        table = self._rows.tensor[:rows]
        inverses = table[:, _INVERSE:].view(torch.float64).float()  # [rows, 2]
        keys, frames = table[:, _KEY], table[:, _FRAME]
        top_ks = table[:, _TOP_K], table[:, _DEPTH_TOP_K]
        draws: Draws
        if self._use_kernels:
            draws = KernelDraws(keys, frames, top_ks, inverses)
        else:
            made = noise(keys, frames, self.codebooks, self._codebook_size)
            first, others = (candidates(top_k, width) for top_k in top_ks)
            draws = NoiseDraws(made, (first, others), inverses)
        hidden = self._backbone.hidden[table[:, _SLOT]]
        codes, is_finite = self._depth.speak(hidden, draws, adapters)
        self._codes[:rows, :-1], self._codes[:rows, -1] = codes, is_finite

    def _read(
        self,
        rows: int,
        span: int,
        adapters: RowAdapters | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """The backbone reads the frames that were spoken last."""
        table = self._rows.tensor[:rows]
        x = self._backbone.embed_frames(self._codes[:rows, :-1])[:, None]  # [rows, 1, W]
        slots, lengths = table[:, _SLOT], table[:, _LENGTH]
        ones = torch.ones_like(slots)
        self._backbone.read(x, slots, lengths, ones, span, adapters, in_place=in_place)

    def _read_prompt(self, piece: int, span: int, adapters: RowAdapters | None = None) -> None:
        prompt = self._prompt.tensor[:piece]
        x = self._backbone.embed(prompt[:, _TOKEN], prompt[:, _CODES:])[None]  # [1, piece, W]
        where = prompt[:1]
        slots, lengths, counts = where[:, _SLOT], where[:, _LENGTH], where[:, _COUNT]
        self._backbone.read(x, slots, lengths, counts, span, adapters)

    def _decode(self, rows: int, frames: int) -> None:
        table = self._codec_rows.tensor[:rows]
        codes = table[:, 2 : 2 + frames * self.codebooks].unflatten(1, (frames, self.codebooks))
        samples = self._decoder.run(table[:, 0], table[:, 1], codes)
        self._samples[: samples.numel()].copy_(samples.flatten())

    # The contract

    @torch.no_grad()
    def load_adapter(self, adapter: LowRank) -> TorchAdapter:
        with self._faults():
            loaded = load_adapter(adapter, self._config, self._device, self._dtype)
            self._synchronize()  # it was copied in another lane than the one that reads it
        return loaded

    def acquire(self, adapter: Any = None) -> int:
        slot = self._free[0]
        with self._faults(), torch.no_grad():
            self._codec.run(partial(self._decoder.reset, slot))
            self._language.run(partial(self._backbone.reset, slot))
        self._table[slot, _LENGTH:] = 0
        self._adapters[slot] = adapter
        self._frames[slot] = 0
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        if self._adapters[slot] is not None:
            self._adapters[slot] = None
            self._batch_adapters.clear()
        heapq.heappush(self._free, slot)

    @torch.no_grad()
    def prefill(self, slot: int, prompt: Prompt) -> None:
        for start in range(0, len(prompt), _PIECES[-1]):
            piece = prompt.piece(start, start + _PIECES[-1])
            count, length = len(piece), int(self._table[slot, _LENGTH])
            rows = np.zeros((count, _CODES + self.codebooks), np.int64)
            rows[:, _SLOT], rows[:, _LENGTH], rows[:, _COUNT] = slot, length, count
            rows[:, _TOKEN], rows[:, _CODES:] = piece.tokens, piece.codes
            with self._faults(), self._language.active():
                self._prompt.put(rows)
                size, span = fitting(self._pieces, count), fitting(self._spans, length + count)
                adapters = self._adapters_of([slot])
                if adapters is None:
                    self._prompt_graphs[size, span]()
                else:
                    read = partial(self._read_prompt, size, span, adapters.backbone)
                    self._language.run(read)
            self._table[slot, _LENGTH] += count

    def groups(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> list[list[int]]:
        found: list[list[int]] = []
        ways = [
            (self._adapters[slot] is not None, self._is_wide(sampler))
            for slot, sampler in zip(slots, samplers, strict=True)
        ]
        for way in ((False, False), (False, True), (True, False), (True, True)):
            rows, most = [row for row, own in enumerate(ways) if own == way], len(slots)
            has_adapter, is_wide = way
            if has_adapter and self._fixed_batch:
                most = 1  # no company: such a batch is not filled up
            elif is_wide:
                most = self._wide_buckets[-1]
            found += [rows[first : first + most] for first in range(0, len(rows), most)]
        return found

    def _is_wide(self, sampler: Sampler) -> bool:
        """Whether its top-k is more than the common graphs draw from."""
        ways = (sampler.of_book(0), sampler.of_book(1))
        return any(top_k > NARROW_TOP_K and temperature > 0 for temperature, top_k in ways)

    @torch.no_grad()
    def step(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> Codes:
        codes = np.empty((len(slots), self.codebooks), np.int64)
        for slot, sampler in zip(slots, samplers, strict=True):
            self._set_sampler(slot, sampler)
        index = np.array(slots, np.int64)
        for group in self.groups(slots, samplers):
            # By slot, so that what their adapters are stacked to stays until one comes or goes.
            rows = sorted(group, key=lambda row: slots[row])
            graphs = self._wide_graphs if self._is_wide(samplers[rows[0]]) else self._speak_graphs
            with self._faults(), self._language.active():
                codes[rows] = self._step(index[rows], graphs)
        for sampler in samplers:
            sampler.frames += 1
        return codes

    def _step(self, slots: np.ndarray, speak: dict[int, Replay]) -> np.ndarray:
        """One frame for slots whose top-k the graphs `speak` can draw, by rows; all of the slots
        have an adapter, or none has."""
        # A slot that is full reads over its last position; nobody asks it for another frame.
        span = fitting(self._spans, min(int(self._table[slots, _LENGTH].max()) + 1, self.positions))
        adapters = self._adapters_of(slots.tolist())
        if adapters is None:
            speaking, rows = fitting(sorted(speak), len(slots)), fitting(self._buckets, len(slots))
            # Rows and slots of the same number, where that takes no larger batch.
            in_place = slots.max() < min(speaking, rows) and (rows, span) in self._in_place_graphs
            read = (self._in_place_graphs if in_place else self._read_graphs)[rows, span]
            where = slots if in_place else np.arange(len(slots))
            padded = np.full(max(speaking, rows), self.slots)
            padded[where] = slots
            self._rows.put(self._table[padded])
            speak[speaking]()
            receive = self._codes_out.send(self._codes[: where.max() + 1])
            read()
        else:
            rows, where = len(slots), np.arange(len(slots))
            self._rows.put(self._table[slots])
            width = int(self._table[slots][:, [_TOP_K, _DEPTH_TOP_K]].max())
            self._language.run(partial(self._speak, rows, width, adapters.depth))
            receive = self._codes_out.send(self._codes[:rows])
            self._language.run(partial(self._read, rows, span, adapters.backbone))
        self._table[slots, _LENGTH] += 1
        frames = receive()[where]
        frames[frames[:, -1] == 0] = NO_CODE
        return frames[:, :-1]

    def _adapters_of(self, slots: Sequence[int]) -> BatchAdapters | None:
        """Those of slots which all have one; None where they have none."""
        found = [adapter for slot in slots if (adapter := self._adapters[slot]) is not None]
        if not found:
            return None
        key = tuple(map(id, found))
        if key not in self._batch_adapters:
            most = _BATCHES_KEPT + (self.slots if self._fixed_batch else 0)
            if len(self._batch_adapters) >= most:
                self._batch_adapters.clear()
            self._batch_adapters[key] = BatchAdapters(found, self._config)
        return self._batch_adapters[key]

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
        with self._faults(), self._language.active():
            kv = self._backbone.kv[:, slot, :, :, :length].clone()
            return Prefix(length, kv, self._backbone.hidden[slot].clone())

    @torch.no_grad()
    def load_prefix(self, slot: int, prefix: Prefix) -> None:
        with self._faults(), self._language.active():
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
            most = self._codec_buckets[frames][-1]
            for first in range(0, len(index), most):
                part = slice(first, first + most)
                samples = self._decode_rows(index[part], codes[part, start : start + frames])
                begin = start * self.samples_per_frame
                out[part, begin : begin + samples.shape[1]] = samples
            start += frames
        return out

    def _decode_rows(self, slots: np.ndarray, codes: Codes) -> np.ndarray:
        frames = codes.shape[1]
        rows = fitting(self._codec_buckets[frames], len(slots))
        table = np.zeros((rows, 2 + MOST_FRAMES * self.codebooks), np.int64)
        table[:, 0] = self.slots
        table[: len(slots), 0], table[: len(slots), 1] = slots, self._frames[slots]
        table[: len(slots), 2 : 2 + frames * self.codebooks] = codes.reshape(len(slots), -1)
        size = frames * self.samples_per_frame
        with self._faults(), self._codec.active():
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
        with self._encodes, self._faults():  # one at a time takes the memory of one
            return self._encoding.run(partial(self._encode, np.array(samples, np.float32)))

    def _encode(self, samples: np.ndarray) -> Codes:
        waves = torch.from_numpy(samples).to(self._device)
        return np.ascontiguousarray(self._encoder.run(waves).t().cpu().numpy())

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # where the GPU stopped working
            self._synchronize()
        device = self._device
        vars(self).clear()  # weights, buffers and graphs: PyTorch gives back what nobody has
        if device.type == "cuda":
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """One sentence for clients instead of a page, and whether anything can go on.

        An error of CUDA's may be that of an earlier call, and most of them end the context: then
        nothing works in this process any more.
        """
        try:
            yield
        except RuntimeError as error:  # OutOfMemoryError is one
            reason = first_line(error)
            log.warning("%s", error)
            if isinstance(error, torch.OutOfMemoryError) or is_about_memory(reason):
                raise OutOfMemory(
                    "the GPU is out of memory; try again, or lower --max-streams"
                ) from None
            if not self._is_alive():
                raise DeviceLost(f"the GPU stopped working: {reason}") from error
            raise EngineFailed(f"the GPU failed: {reason}") from error

    def _is_alive(self) -> bool:
        try:
            self._synchronize()
            return torch.ones(1, device=self._device).add_(1).item() == 2.0
        except RuntimeError:
            return False

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
