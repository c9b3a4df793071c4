"""The CUDA backend: a frame of all streams is two graphs, the codec's beside them in another lane.
Which rows a step has, and in what sizes they are computed; programs.py has what is computed.

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
from dataclasses import dataclass, replace
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
from tts_provider.engines.csm.torch.adapters import NO_ADAPTER, TorchAdapter, column_bytes
from tts_provider.engines.csm.torch.device import (
    MemoryPlan,
    codec_bytes,
    is_about_memory,
    plan_memory,
)
from tts_provider.engines.csm.torch.graphs import first_line, fitting
from tts_provider.engines.csm.torch.mimi import MOST_FRAMES, ring_positions
from tts_provider.engines.csm.torch.programs import (
    ADAPTER,
    CHUNKS,
    CODES,
    COLUMNS,
    COUNT,
    DEPTH_INVERSE,
    DEPTH_TOP_K,
    DTYPES,
    FRAME,
    INVERSE,
    KEY,
    LENGTH,
    PIECES,
    PROMPT_ADAPTER,
    SLOT,
    TOKEN,
    TOP_K,
    Programs,
)
from tts_provider.engines.csm.torch.sampling import NARROW_TOP_K, bound_inverse, signed
from tts_provider.engines.csm.torch.weights import Read
from tts_provider.errors import EngineFailed, StartupError

log = logging.getLogger(__name__)


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
        adapter_ranks: int = 0,
        most_adapter_bytes: int = 2**30,
        on_progress: Callable[[str], None],
    ) -> None:
        """`read` gives the canonical tensors. Fewer slots than asked for where memory is short.
        Without graphs each of some 2 000 kernels of a frame is started by itself. With a fixed
        batch every row computes as in a full one, so that its codes are the same in any company.
        Graphs have room for adapters of `adapter_ranks` together, within `most_adapter_bytes`; with
        more of them, streams with adapters go without graphs.

        Raises `StartupError` where not even one stream fits.
        """
        self.device, self.precision = device, precision
        self.positions = config.positions
        self.codebooks = config.codebooks
        self.samples_per_frame = mimi.samples_per_frame
        self._device = torch.device(device)
        dtype = DTYPES[precision]
        rank_bytes = column_bytes(config, dtype)
        adapter_ranks = min(adapter_ranks, most_adapter_bytes // rank_bytes)
        plan = plan_memory(
            *(config, mimi, codec_bytes(codec), ring_positions(mimi), dtype.itemsize),
            adapter_ranks * rank_bytes,
        )
        free = self._free_bytes()
        if plan.adapters and free is not None and plan.streams(free) < 1:
            log.warning("no memory is reserved for the adapters of voices")
            plan, adapter_ranks = replace(plan, adapters=0), 0
        most = self._plan(plan, slots)
        try:
            on_progress(f"loading the weights in {precision}")
            with torch.no_grad():
                self._programs = Programs(
                    config,
                    read,
                    codec,
                    mimi,
                    device=self._device,
                    precision=precision,
                    use_graphs=use_graphs,
                    use_kernels=use_kernels,
                    fixed_batch=fixed_batch,
                    adapter_ranks=adapter_ranks,
                )
                self.slots = self._try_out(plan, most, slots)
                self._reserve(self.slots)
                on_progress("capturing graphs" if device == "cuda" else "warming up")
                self._programs.capture()
        except torch.OutOfMemoryError as error:
            log.debug("%s", error)
            raise StartupError(
                "the GPU's memory ran out while the model was loaded; close what else uses it, "
                "lower --max-streams, or use --device cpu"
            ) from None

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
            log.warning(
                "the memory is enough for %d streams, not for --max-streams %d", fit, wanted
            )
        torch.cuda.empty_cache()  # graphs have memory of their own
        return min(fit, most)

    def _runs_all(self, rows: int) -> bool:
        """Whether there is memory for so many rows at once. Raises where one row is too many."""
        try:
            self._programs.reserve(0, rows)
            self._programs.run_largest()
            self._programs.synchronize()
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
            return False
        return True

    def _reserve(self, slots: int) -> None:
        self._programs.reserve(slots, slots)
        # By slot, the last being the scratch row: what its row of the inbox will be.
        self._table = np.zeros((slots + 1, COLUMNS), np.int64)
        self._table[:, SLOT] = np.arange(slots + 1)
        self._table[:, [TOP_K, DEPTH_TOP_K]] = 1
        self._frames = np.zeros(slots + 1, np.int64)  # that the codec has decoded
        self._adapters: list[TorchAdapter | None] = [None] * slots
        # A heap: who comes takes the lowest, so that slots in use are side by side.
        self._free = list(range(slots))
        self._encodes = threading.Lock()

    # The contract

    @torch.no_grad()
    def load_adapter(self, adapter: LowRank) -> TorchAdapter:
        with self._faults():
            return self._programs.load_adapter(adapter)

    def acquire(self, adapter: Any = None) -> int:
        slot, programs = self._free[0], self._programs
        with self._faults(), torch.no_grad():
            programs.codec.run(partial(programs.decoder.reset, slot))
            programs.language.run(partial(programs.backbone.reset, slot))
        self._table[slot, LENGTH:] = 0
        self._table[slot, ADAPTER] = NO_ADAPTER if adapter is None else adapter.number
        self._adapters[slot] = adapter
        self._frames[slot] = 0
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        self._adapters[slot] = None
        heapq.heappush(self._free, slot)

    @torch.no_grad()
    def prefill(self, slot: int, prompt: Prompt) -> None:
        programs = self._programs
        for start in range(0, len(prompt), PIECES[-1]):
            piece = prompt.piece(start, start + PIECES[-1])
            count, length = len(piece), int(self._table[slot, LENGTH])
            rows = np.zeros((count, CODES + self.codebooks), np.int64)
            rows[:, SLOT], rows[:, LENGTH], rows[:, COUNT] = slot, length, count
            rows[:, PROMPT_ADAPTER] = self._table[slot, ADAPTER]
            rows[:, TOKEN], rows[:, CODES:] = piece.tokens, piece.codes
            size, span = fitting(programs.pieces, count), fitting(programs.spans, length + count)
            with self._faults(), programs.language.active():
                programs.prompt.put(rows)
                programs.read_prompt(size, span, self._adapters[slot] is not None)
            self._table[slot, LENGTH] += count

    def groups(self, slots: Sequence[int], samplers: Sequence[Sampler]) -> list[list[int]]:
        """Those without an adapter do not wait for those with one, unless one graph computes
        both."""
        found: list[list[int]] = []
        ways = [
            (self._has_slow_adapter(slot, sampler), self._is_wide(sampler))
            for slot, sampler in zip(slots, samplers, strict=True)
        ]
        for way in ((False, False), (False, True), (True, False), (True, True)):
            rows = [row for row, own in enumerate(ways) if own == way]
            _, is_wide = way
            most = self._programs.wide_buckets[-1] if is_wide else len(slots)
            found += [rows[first : first + most] for first in range(0, len(rows), most)]
        return found

    def _has_slow_adapter(self, slot: int, sampler: Sampler) -> bool:
        in_graphs = self._programs.captured_adapters and not self._is_wide(sampler)
        return self._adapters[slot] is not None and not in_graphs

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
        for rows in self.groups(slots, samplers):
            is_wide = self._is_wide(samplers[rows[0]])
            with self._faults(), self._programs.language.active():
                codes[rows] = self._step(index[rows], is_wide)
        for sampler in samplers:
            sampler.frames += 1
        return codes

    def _step(self, slots: np.ndarray, is_wide: bool) -> np.ndarray:
        """One frame for slots of a group."""
        programs, table = self._programs, self._table
        has_adapters = any(self._adapters[slot] is not None for slot in slots)
        sizes = programs.wide_buckets if is_wide else programs.buckets
        speaking, rows = fitting(sizes, len(slots)), fitting(programs.buckets, len(slots))
        # A slot that is full reads over its last position; nobody asks it for another frame.
        span = fitting(programs.spans, min(int(table[slots, LENGTH].max()) + 1, self.positions))
        # Rows and slots of the same number, where that takes no larger batch.
        in_place = slots.max() < min(speaking, rows) and programs.reads_in_place(has_adapters)
        where = slots if in_place else np.arange(len(slots))
        padded = np.full(max(speaking, rows), self.slots)
        padded[where] = slots
        programs.rows.put(table[padded])
        programs.speak(speaking, is_wide, has_adapters)
        receive = programs.codes_out.send(programs.codes[: where.max() + 1])
        programs.read(rows, span, in_place, has_adapters)
        table[slots, LENGTH] += 1
        frames = receive()[where]
        frames[frames[:, -1] == 0] = NO_CODE
        return frames[:, :-1]

    def _set_sampler(self, slot: int, sampler: Sampler) -> None:
        row = self._table[slot]
        row[FRAME], row[KEY] = sampler.frames, signed(sampler.key)
        for book, top_k_at, inverse_at in (
            (0, TOP_K, INVERSE),
            (1, DEPTH_TOP_K, DEPTH_INVERSE),
        ):
            temperature, top_k = sampler.of_book(book)
            row[top_k_at] = 1 if temperature == 0 else min(top_k, self._programs.codebook_size)
            row[inverse_at] = np.float64(bound_inverse(temperature)).view(np.int64)

    @torch.no_grad()
    def save_prefix(self, slot: int) -> Prefix:
        length = int(self._table[slot, LENGTH])
        with self._faults(), self._programs.language.active():
            kv = self._programs.backbone.kv[:, slot, :, :, :length].clone()
            return Prefix(length, kv, self._programs.backbone.hidden[slot].clone())

    @torch.no_grad()
    def load_prefix(self, slot: int, prefix: Prefix) -> None:
        with self._faults(), self._programs.language.active():
            self._programs.backbone.kv[:, slot, :, :, : prefix.frames].copy_(prefix.kv)
            self._programs.backbone.hidden[slot].copy_(prefix.hidden)
        self._table[slot, LENGTH] = prefix.frames

    @torch.no_grad()
    def decode(self, slots: Sequence[int], codes: Codes) -> np.ndarray:
        out = np.empty((len(slots), codes.shape[1] * self.samples_per_frame), np.float32)
        index, start = np.array(slots, np.int64), 0
        while start < codes.shape[1]:
            left = codes.shape[1] - start
            frames = next(size for size in CHUNKS if size <= left)
            most = self._programs.codec_buckets[frames][-1]
            for first in range(0, len(index), most):
                part = slice(first, first + most)
                samples = self._decode_rows(index[part], codes[part, start : start + frames])
                begin = start * self.samples_per_frame
                out[part, begin : begin + samples.shape[1]] = samples
            start += frames
        return out

    def _decode_rows(self, slots: np.ndarray, codes: Codes) -> np.ndarray:
        frames, programs = codes.shape[1], self._programs
        rows = fitting(programs.codec_buckets[frames], len(slots))
        table = np.zeros((rows, 2 + MOST_FRAMES * self.codebooks), np.int64)
        table[:, 0] = self.slots
        table[: len(slots), 0], table[: len(slots), 1] = slots, self._frames[slots]
        table[: len(slots), 2 : 2 + frames * self.codebooks] = codes.reshape(len(slots), -1)
        size = frames * self.samples_per_frame
        with self._faults(), programs.codec.active():
            programs.codec_rows.put(table)
            programs.decode(rows, frames)
            result = programs.samples[: len(slots) * size].view(len(slots), size)
            samples = programs.samples_out.send(result)()
        self._frames[slots] += frames
        return samples

    @torch.no_grad()
    def encode(self, samples: np.ndarray) -> Codes:
        if not len(samples):
            return np.zeros((0, self.codebooks), np.int64)
        with self._encodes, self._faults():  # one at a time takes the memory of one
            return self._programs.encode(np.array(samples, np.float32))

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # where the GPU stopped working
            self._programs.synchronize()
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
            self._programs.synchronize()
            return torch.ones(1, device=self._device).add_(1).item() == 2.0
        except RuntimeError:
            return False
