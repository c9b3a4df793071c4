"""What is computed on the device, each from fixed tensors to fixed tensors, so that CUDA graphs
hold it: a frame that is spoken, read, decoded, and a piece of a prompt. Each for some sizes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, LowRank
from tts_provider.engines.csm.config import CsmConfig, MimiConfig
from tts_provider.engines.csm.torch import language
from tts_provider.engines.csm.torch.adapters import AdapterBank, RowAdapters, TorchAdapter
from tts_provider.engines.csm.torch.graphs import (
    Inbox,
    Lane,
    Outbox,
    buckets,
    no_garbage_collection,
)
from tts_provider.engines.csm.torch.kernels import KernelDraws, gate, turn, why_not
from tts_provider.engines.csm.torch.mimi import MOST_FRAMES, MimiDecoder, MimiEncoder, MimiWeights
from tts_provider.engines.csm.torch.sampling import (
    NARROW_TOP_K,
    Draws,
    NoiseDraws,
    candidates,
    noise,
    silu_gate,
)
from tts_provider.engines.csm.torch.weights import Read, load_language, pairs

log = logging.getLogger(__name__)

Replay = Callable[[], None]

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
PIECES = [16, 32, 64]
"""Prompt positions read in one run."""
_SHORTEST_SPAN = 256
_WIDE_ROWS = 8
"""Rows of a long top-k in one run, of which every logit is sorted: they are rare."""
CHUNKS = (MOST_FRAMES, 2, 1)
"""Frames of a row in one run of the codec: what the loop's chunks are made of."""
_CODEC_FRAMES = 256  # device.py counts their memory
"""Frames of all rows together in one run of the codec: an activation of theirs is 126 MB."""
_LONGEST_RECORDING_FRAMES = 750
"""A minute: what is encoded once before memory is counted."""

# Columns of a step's row: its slot and how much it has read; then what sampling needs.
SLOT, LENGTH, FRAME, KEY, TOP_K, DEPTH_TOP_K = range(6)
# Float64, as their bits, so that one copy takes all columns: 1 / temperature, of code 0 and of the
# others. Then its adapter's number.
INVERSE, DEPTH_INVERSE, ADAPTER, COLUMNS = range(6, 10)
# Columns of a prompt's row: the first row's say where the prompt goes; then token and codes.
COUNT, PROMPT_ADAPTER, TOKEN, CODES = range(2, 6)


class Programs:
    """A method a program: it replays the graph of its sizes, or runs what has none."""

    def __init__(
        self,
        config: CsmConfig,
        read: Read,
        codec: Mapping[str, np.ndarray],
        mimi: MimiConfig,
        *,
        device: torch.device,
        precision: str,
        use_graphs: bool,
        use_kernels: bool,
        fixed_batch: bool,
        adapter_ranks: int,
    ) -> None:
        """Without slots until `reserve`. `adapter_ranks` are those that graphs have room for."""
        self._config, self._device, self._fixed_batch = config, device, fixed_batch
        self.codebooks, self._positions = config.codebooks, config.positions
        self._samples_per_frame = mimi.samples_per_frame
        self.uses_kernels = use_kernels and has_kernels(device)
        # The codec has fewer codes than the model has entries: specials are never sampled.
        self.codebook_size = min(mimi.codebook_size, config.audio_vocabulary)
        self.backbone, self.depth = load_language(
            config,
            read,
            codes=self.codebook_size,
            slots=0,
            device=device,
            dtype=DTYPES[precision],
            gate=gate if self.uses_kernels else silu_gate,
            turn=turn if self.uses_kernels else language.turn,
        )
        codec_weights = MimiWeights(mimi, codec, device)
        self.decoder = MimiDecoder(codec_weights, 1)
        self._encoder = MimiEncoder(codec_weights)

        exact = precision == "float32"
        self.language = Lane(device, exact=exact, use_graphs=use_graphs)
        # First sound leaves first: the codec's few kernels go before the backbone's many. It is
        # float32 in any case, in TF32 where the model is not exact either.
        self.codec = Lane(device, priority=-1, exact=exact, use_graphs=use_graphs)
        # A voice that is new holds up nobody's sound. What it encodes to must be exact.
        self._encoding = Lane(device)
        # What waits for copies from the host does not wait for frames too.
        self._loading = Lane(device)
        with self.language.active():
            self.adapters = AdapterBank(config, adapter_ranks, device, DTYPES[precision], pairs)
        self._captured_bank: object = None

    def reserve(self, slots: int, rows: int) -> None:
        """The memory of so many slots, and of all that computes up to so many rows at once."""
        device = self._device
        self.slots = slots
        self.backbone.reserve(slots)
        self.decoder.reserve(slots + 1)
        self.rows = Inbox(rows, COLUMNS, device)
        self.prompt = Inbox(PIECES[-1], CODES + self.codebooks, device)
        self.codec_rows = Inbox(rows, 2 + MOST_FRAMES * self.codebooks, device)
        # A row's frame, and 1 where its logits were finite: that travels with the codes.
        self.codes = torch.zeros((rows, self.codebooks + 1), dtype=torch.int64, device=device)
        most_samples = max(_CODEC_FRAMES, MOST_FRAMES) * self._samples_per_frame
        self.samples = torch.zeros(most_samples, device=device)
        self.codes_out = Outbox(self.codes.numel(), torch.int64, device)
        self.samples_out = Outbox(most_samples, torch.float32, device)

        spans = [b for b in buckets(self._positions) if b >= _SHORTEST_SPAN] or [self._positions]
        # The same kernels whoever else speaks: every batch, piece and span is the largest.
        sizes: Callable[[list[int]], list[int]] = (
            (lambda sizes: sizes[-1:]) if self._fixed_batch else (lambda sizes: sizes)
        )
        self.spans, self.pieces, self.buckets = sizes(spans), sizes(PIECES), sizes(buckets(rows))
        self.wide_buckets = sizes(buckets(min(rows, _WIDE_ROWS)))
        self.codec_buckets = {
            frames: sizes(buckets(min(rows, _CODEC_FRAMES // frames))) for frames in CHUNKS
        }
        # By rows, or positions of a prompt, and what else `_speak` and the others are given.
        self.speak_graphs: dict[tuple[int, bool, bool], Replay] = {}
        self.read_graphs: dict[tuple[int, int, bool, bool], Replay] = {}
        self.prompt_graphs: dict[tuple[int, int, bool], Replay] = {}
        self.codec_graphs: dict[tuple[int, int], Replay] = {}
        self._point_at_scratch(rows)

    def _point_at_scratch(self, rows: int) -> None:
        """Nothing but the scratch row is written while graphs are made: all inboxes say so."""
        scratch = np.zeros((rows, COLUMNS), np.int64)
        scratch[:, SLOT], scratch[:, [TOP_K, DEPTH_TOP_K]] = self.slots, 1
        self.rows.put(scratch)
        prompt = np.zeros((PIECES[-1], CODES + self.codebooks), np.int64)
        prompt[:, [SLOT, COUNT]] = self.slots, 1
        self.prompt.put(prompt)
        codec_rows = np.zeros((rows, 2 + MOST_FRAMES * self.codebooks), np.int64)
        codec_rows[:, 0] = self.slots
        self.codec_rows.put(codec_rows)
        self.synchronize()

    def run_largest(self) -> None:
        """What takes the most memory of each kind."""
        rows, span, has_adapters = self.buckets[-1], self.spans[-1], self.adapters.bank.columns > 0
        self.speak(rows, False, has_adapters)
        self.speak(self.wide_buckets[-1], True, has_adapters)
        self.read(rows, span, False, has_adapters)
        self.read_prompt(PIECES[-1], span, has_adapters)
        for frames, sizes in self.codec_buckets.items():
            self.decode(sizes[-1], frames)
        self.encode(np.zeros(_LONGEST_RECORDING_FRAMES * self._samples_per_frame, np.float32))

    def capture(self) -> None:
        """Every graph there will be; the largest first, so that the smaller ones fit in its memory.

        Only the scratch row is written meanwhile.
        """
        with no_garbage_collection():
            self._capture_language(has_adapters=False)
            if self.adapters.bank.columns:
                self._captured_bank = self.adapters.bank
                self._capture_language(has_adapters=True)
            for frames, sizes in self.codec_buckets.items():
                for rows in reversed(sizes):
                    name = f"the sound of {rows} streams, {frames} frames"
                    decode = partial(self._decode, rows, frames)
                    self.codec_graphs[rows, frames] = self.codec.capture(name, decode)
        self.synchronize()

    def _capture_language(self, *, has_adapters: bool) -> None:
        capture, whose = self.language.capture, " with adapters" if has_adapters else ""
        for rows in reversed(self.buckets):
            speak = partial(self._speak, rows, False, has_adapters)
            name = f"a frame of {rows} streams{whose}"
            self.speak_graphs[rows, False, has_adapters] = capture(name, speak)
            for span in reversed(self.spans):
                for in_place in (False, True) if self.reads_in_place(has_adapters) else (False,):
                    where = ", in place" if in_place else ""
                    name = f"{rows} streams{whose} that read a frame, {span} positions{where}"
                    read = partial(self._read, rows, span, in_place, has_adapters)
                    self.read_graphs[rows, span, in_place, has_adapters] = capture(name, read)
        for rows in reversed(() if has_adapters else self.wide_buckets):
            speak = partial(self._speak, rows, True, False)
            name = f"a frame of {rows} streams with a long top-k"
            self.speak_graphs[rows, True, False] = capture(name, speak)
        for piece in reversed(self.pieces):
            for span in reversed(self.spans):
                read = partial(self._read_prompt, piece, span, has_adapters)
                name = f"{piece} positions of a prompt{whose}, {span} in all"
                self.prompt_graphs[piece, span, has_adapters] = capture(name, read)

    def reads_in_place(self, has_adapters: bool) -> bool:
        """Not with a fixed batch, which computes the same in any company."""
        return not (self._fixed_batch or has_adapters)

    @property
    def captured_adapters(self) -> bool:
        """Whether graphs compute with adapters: not where more were loaded than there was room
        for."""
        return self._captured_bank is self.adapters.bank

    # The programs

    def speak(self, rows: int, is_wide: bool, has_adapters: bool) -> None:
        """A frame of each row, from what its slot read last, into `codes`."""
        replay = self.speak_graphs.get((rows, is_wide, has_adapters))
        self._do(replay, has_adapters, partial(self._speak, rows, is_wide, has_adapters))

    def read(self, rows: int, span: int, in_place: bool, has_adapters: bool) -> None:
        """The backbone reads the frames that were spoken last."""
        replay = self.read_graphs.get((rows, span, in_place, has_adapters))
        self._do(replay, has_adapters, partial(self._read, rows, span, in_place, has_adapters))

    def read_prompt(self, piece: int, span: int, has_adapters: bool) -> None:
        """The backbone reads a piece of a prompt."""
        replay = self.prompt_graphs.get((piece, span, has_adapters))
        self._do(replay, has_adapters, partial(self._read_prompt, piece, span, has_adapters))

    def decode(self, rows: int, frames: int) -> None:
        """The codec's next samples of each row, into `samples`."""
        if (replay := self.codec_graphs.get((rows, frames))) is not None:
            replay()
        else:
            self.codec.run(partial(self._decode, rows, frames))

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Samples (n,) → codes (frames, codebooks), beside all else."""
        return self._encoding.run(partial(self._encode, samples))

    def load_adapter(self, adapter: LowRank) -> TorchAdapter:
        """From any thread. Raises what `AdapterBank` raises."""
        with self._loading.active():
            halves = self.adapters.copy(adapter)
            self._loading.wait()
        with self.language.active():
            loaded = self.adapters.keep(halves)
            self.language.wait()  # the memory of the copies is another lane's again
        return loaded

    def _do(self, replay: Replay | None, has_adapters: bool, work: Callable[[], None]) -> None:
        if replay is None or (has_adapters and not self.captured_adapters):
            self.language.run(work)
        else:
            replay()

    def _speak(self, rows: int, is_wide: bool, has_adapters: bool) -> None:
        table = self.rows.tensor[:rows]
        inverses = table[:, INVERSE : DEPTH_INVERSE + 1].view(torch.float64).float()  # [rows, 2]
        keys, frames = table[:, KEY], table[:, FRAME]
        top_ks = table[:, TOP_K], table[:, DEPTH_TOP_K]
        draws: Draws
        if self.uses_kernels:
            draws = KernelDraws(keys, frames, top_ks, inverses)
        else:
            made = noise(keys, frames, self.codebooks, self.codebook_size)
            width = self.codebook_size if is_wide else NARROW_TOP_K
            first, others = (candidates(top_k, width) for top_k in top_ks)
            draws = NoiseDraws(made, (first, others), inverses)
        adapters = self._adapters(DEPTH, table[:, ADAPTER], has_adapters)
        hidden = self.backbone.hidden[table[:, SLOT]]
        codes, is_finite = self.depth.speak(hidden, draws, adapters)
        self.codes[:rows, :-1], self.codes[:rows, -1] = codes, is_finite

    def _read(self, rows: int, span: int, in_place: bool, has_adapters: bool) -> None:
        table = self.rows.tensor[:rows]
        x = self.backbone.embed_frames(self.codes[:rows, :-1])[:, None]  # [rows, 1, W]
        adapters = self._adapters(BACKBONE, table[:, ADAPTER], has_adapters)
        slots, lengths = table[:, SLOT], table[:, LENGTH]
        ones = torch.ones_like(slots)
        self.backbone.read(x, slots, lengths, ones, span, adapters, in_place=in_place)

    def _read_prompt(self, piece: int, span: int, has_adapters: bool) -> None:
        prompt = self.prompt.tensor[:piece]
        x = self.backbone.embed(prompt[:, TOKEN], prompt[:, CODES:])[None]  # [1, piece, W]
        where = prompt[:1]
        adapters = self._adapters(BACKBONE, where[:, PROMPT_ADAPTER], has_adapters)
        slots, lengths, counts = where[:, SLOT], where[:, LENGTH], where[:, COUNT]
        self.backbone.read(x, slots, lengths, counts, span, adapters)

    def _adapters(
        self, transformer: str, numbers: torch.Tensor, has_adapters: bool
    ) -> RowAdapters | None:
        return self.adapters.of(transformer, numbers) if has_adapters else None

    def _decode(self, rows: int, frames: int) -> None:
        table = self.codec_rows.tensor[:rows]
        codes = table[:, 2 : 2 + frames * self.codebooks].unflatten(1, (frames, self.codebooks))
        samples = self.decoder.run(table[:, 0], table[:, 1], codes)
        self.samples[: samples.numel()].copy_(samples.flatten())

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        waves = torch.from_numpy(samples).to(self._device)
        return np.ascontiguousarray(self._encoder.run(waves).t().cpu().numpy())

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def has_kernels(device: torch.device) -> bool:
    """Whether our kernels are of use there; else the log says why."""
    if device.type != "cuda":
        return False
    if (reason := why_not(device)) is not None:
        log.warning("using PyTorch's CUDA kernels instead of this program's: %s", reason)
    return reason is None
