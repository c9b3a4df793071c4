"""The language model on our kernels: weights packed into tiles, and two transformers."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence

import ml_dtypes
import numpy as np

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, LowRank
from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.cpu.kv import KeyValues, reserve
from tts_provider.engines.csm.cpu.language import Frame, Language
from tts_provider.engines.csm.cpu.stepwise import AUDIO_TABLE, DEPTH_TABLE
from tts_provider.engines.csm.native import library
from tts_provider.engines.csm.native.adapter import NativeAdapter
from tts_provider.engines.csm.native.library import (
    LANES,
    WIDEST_HEAD,
    Kernels,
    Layer,
    LayerAdapter,
    Linear,
    NoKernels,
    Output,
    Step,
    Transformer,
)
from tts_provider.engines.csm.native.packed import (
    Packed,
    Wanted,
    Weights,
    address_of,
)
from tts_provider.engines.csm.rope import rope_angles
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import StartupError


def check_fits(config: CsmConfig, precision: str) -> None:
    """Raises `NoKernels` where the kernels cannot run such a model."""
    if precision == "float32":
        raise NoKernels("the CPU kernels are for int8 and int4")
    for part in (config.backbone, config.depth):
        if part.heads % part.kv_heads:
            raise NoKernels(
                f"the CPU kernels cannot share {part.kv_heads} keys by {part.heads} heads"
            )
        widths = part.width, part.mlp_width, part.head_size
        if any(width % LANES for width in widths) or part.head_size > WIDEST_HEAD:
            raise NoKernels(
                f"the CPU kernels take widths in multiples of {LANES} and heads of at most "
                f"{WIDEST_HEAD} channels; here are width {part.width}, MLP {part.mlp_width} and "
                f"heads of {part.head_size}"
            )


class NativeLanguage(Language):
    """int8 and int4. `check_fits` must have passed; of `weights` the tables of audio codes stay."""

    cuts_freely = True

    def __init__(
        self, kernels: Kernels, config: CsmConfig, weights: Weights, *, slots: int, threads: int
    ) -> None:
        self._thread_pool = kernels.calls.thread_pool_start(threads)
        if self._thread_pool is None:
            raise StartupError(
                f"the system does not allow {threads} threads; set TTS_PROVIDER_THREADS to fewer"
            )
        self._stop = weakref.finalize(self, kernels.calls.thread_pool_stop, self._thread_pool)
        self._stop.atexit = False  # a step may be running then, and the threads end in any case
        self._kernels, self._config = kernels, config
        self._packed = Packed(kernels, weights, list(_wanted(config, weights)), threads)
        self._backbone, self._depth = (
            _Transformer(kernels, self._packed, weights, prefix, part, slots, positions, threads)
            for prefix, part, positions in (
                (BACKBONE, config.backbone, config.positions),
                (DEPTH, config.depth, config.codebooks + 1),
            )
        )
        self.kv = self._backbone.kv
        self._tables = weights[AUDIO_TABLE], weights[DEPTH_TABLE]
        self._model = self._describe_model()
        self._workspace = reserve(kernels.calls.frame_bytes(self._model, slots, threads))

    def _describe_model(self) -> library.Model:
        layers, books = self._packed.layers, self._config.codebooks
        for table in self._tables:
            assert table.dtype == ml_dtypes.bfloat16
            assert table.flags.c_contiguous
        audio_table, depth_table = (table.ctypes.data for table in self._tables)
        return library.Model(
            *(ctypes.pointer(part.transformer) for part in (self._backbone, self._depth)),
            layers["projection"],
            (Linear * books)(*(layers[f"head.{book}"] for book in range(books))),
            *(audio_table, depth_table, books, self._config.audio_vocabulary),
        )

    def load_adapter(self, adapter: LowRank) -> NativeAdapter:
        return NativeAdapter(self._kernels, self._config, adapter)

    def read(
        self,
        x: np.ndarray,
        first_row: int,
        lengths: np.ndarray,
        adapters: Sequence[NativeAdapter | None] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        heads = [self._packed.layers[name] for name in ("head.0", "projection")]
        layers = [None if adapter is None else adapter.backbone for adapter in adapters]
        logits, projected = self._backbone.run(
            self._thread_pool, x, first_row, lengths, heads, layers
        )
        return logits, projected

    def speak(
        self, x: np.ndarray, codebook: int, adapters: Sequence[NativeAdapter | None] = ()
    ) -> np.ndarray:
        lengths = np.full(len(x), 0 if codebook == 1 else codebook, np.int32)
        head = self._packed.layers[f"head.{codebook}"]
        layers = [None if adapter is None else adapter.depth for adapter in adapters]
        return self._depth.run(self._thread_pool, x, 0, lengths, [head], layers)[0]

    def frame(self, frame: Frame) -> np.ndarray:
        """In one call, without the interpreter's lock. Raises `ValueError` as `read` does."""
        # Those who read come first.
        order = sorted(range(len(frame.rows)), key=lambda number: frame.read[number] is None)
        rows = np.array([frame.rows[number] for number in order], np.int32)
        lengths = np.ascontiguousarray(frame.lengths[rows], np.int32)
        reads = [frame.read[number] for number in order]
        read = np.array([codes for codes in reads if codes is not None], np.int32)
        self._backbone.check_fits(rows, lengths[: len(read)], 1)
        books, vocabulary = self._config.codebooks, self._config.audio_vocabulary
        if not 0 < frame.choices <= vocabulary or not _are_codes(read, vocabulary):
            raise ValueError(f"codes are below {vocabulary}, and {frame.choices} may be drawn")
        logits = np.zeros((len(rows), -(-vocabulary // LANES) * LANES), np.float32)
        logits[:, :vocabulary] = frame.logits[order]
        projected = np.ascontiguousarray(frame.projected[order], np.float32)
        adapters = [frame.adapters[number] for number in order] if frame.adapters else []
        codes = np.empty((len(rows), books), np.int32)
        asked = library.Frame(
            ctypes.pointer(self._model),
            *(array.ctypes.data for array in (rows, lengths, read)),
            (library.Sampling * len(rows))(*(_sampling(frame.samplers[n]) for n in order)),
            *(array.ctypes.data for array in (logits, projected)),
            _pointers([a and a.backbone for a in adapters[: len(read)]]),
            _pointers([a and a.depth for a in adapters]),
            *(codes.ctypes.data, address_of(self._workspace)),
            *(len(rows), len(read), frame.choices),
        )
        self._kernels.calls.frame_run(self._thread_pool, asked)
        made = np.empty((len(rows), books), np.int64)
        made[order] = codes
        return made

    def forget(self, row: int) -> None:
        self._backbone.key_values.forget(row)

    def close(self) -> None:
        self._stop()


def _are_codes(read: np.ndarray, vocabulary: int) -> bool:
    return len(read) == 0 or (read.min() >= 0 and read.max() < vocabulary)


def _sampling(sampler: Sampler) -> library.Sampling:
    (temperature, top_k), (depth_temperature, depth_top_k) = map(sampler.of_book, (0, 1))
    return library.Sampling(
        *(sampler.key, sampler.frames, temperature, depth_temperature),
        *(min(k, _MOST_TOP_K) for k in (top_k, depth_top_k)),
    )


def _wanted(config: CsmConfig, weights: Weights) -> Iterator[Wanted]:
    """In the order in which a frame reads them."""
    for prefix, part in ((BACKBONE, config.backbone), (DEPTH, config.depth)):
        queries, keys = part.heads * part.head_size, part.kv_heads * part.head_size
        for number in range(part.layers):
            layer = f"{prefix}.layers.{number}"
            if f"{layer}.v.codes" in weights:
                yield Wanted(f"{layer}.query_key", part.width, f"{layer}.qk")
                yield Wanted(f"{layer}.value", part.width, f"{layer}.v")
            else:
                first, rest = slice(queries + keys), slice(queries + keys, None)
                yield Wanted(f"{layer}.query_key", part.width, f"{layer}.qkv", first)
                yield Wanted(f"{layer}.value", part.width, f"{layer}.qkv", rest)
            yield Wanted(f"{layer}.output", queries, f"{layer}.o")
            first, rest = slice(part.mlp_width), slice(part.mlp_width, None)
            yield Wanted(f"{layer}.gate", part.width, f"{layer}.gate_up", first)
            yield Wanted(f"{layer}.up", part.width, f"{layer}.gate_up", rest)
            yield Wanted(f"{layer}.down", part.mlp_width, f"{layer}.down")
    yield Wanted("projection", config.backbone.width, "projection")
    for book in range(config.codebooks):
        width = (config.depth if book else config.backbone).width
        yield Wanted(f"head.{book}", width, f"head.{book}")


_MOST_TOP_K = 2**31 - 1


class _Transformer:
    """One of the two, with its KV buffers."""

    def __init__(
        self,
        kernels: Kernels,
        packed: Packed,
        weights: Weights,
        prefix: str,
        config: TransformerConfig,
        slots: int,
        positions: int,
        threads: int,
    ) -> None:
        self._run = kernels.calls.transformer_run
        self._width, self._slots, self._positions = config.width, slots, positions
        shape = (slots, config.kv_heads, positions, config.head_size)
        self.key_values = KeyValues(shape, np.float16, 2 * config.layers)
        self.kv = self.key_values.buffers
        angles = rope_angles(config, positions)
        cos, sin = (turn(angles).astype(np.float32) for turn in (np.cos, np.sin))
        norm = np.array(weights[f"{prefix}.norm"])
        self._kept = [cos, sin, norm]
        layers = (Layer * config.layers)()
        for number in range(config.layers):
            layer, name = layers[number], f"{prefix}.layers.{number}"
            for kind in ("query_key", "value", "output", "gate", "up", "down"):
                setattr(layer, kind, packed.layers[f"{name}.{kind}"])
            norms = [
                np.array(weights[f"{name}.{norm}_layernorm"])
                for norm in ("input", "post_attention")
            ]
            self._kept += norms
            layer.attention_norm, layer.mlp_norm = (norm.ctypes.data for norm in norms)
            layer.keys, layer.values = (kv.ctypes.data for kv in self.kv[2 * number :][:2])
        self.transformer = Transformer(
            *(config.layers, config.width, config.heads, config.kv_heads),
            *(config.head_size, config.mlp_width, positions, config.norm_eps, layers),
            *(norm.ctypes.data, cos.ctypes.data, sin.ctypes.data),
        )
        size = kernels.calls.workspace_bytes(self.transformer, slots, threads)
        self._workspace = reserve(size)

    def run(
        self,
        thread_pool: int,
        x: np.ndarray,
        first_row: int,
        lengths: np.ndarray,
        layers: Sequence[Linear],
        adapters: Sequence[ctypes.Array[LayerAdapter] | None] = (),
    ) -> list[np.ndarray]:
        """x [B, S, W] → [B, outputs] of each of `layers`, for the last position.

        Raises `ValueError` for what would not fit into the KV buffers.
        """
        batch, sequence, width = x.shape
        assert len(adapters) in (0, batch)
        if lengths.shape != (batch,) or width != self._width:
            raise ValueError(f"{lengths.shape} rows of width {self._width} cannot take {x.shape}")
        rows = np.arange(first_row, first_row + batch, dtype=np.int32)
        self.check_fits(rows, lengths, sequence)
        x = np.ascontiguousarray(x, np.float32)
        lengths = np.ascontiguousarray(lengths, np.int32)
        found = [
            np.empty((batch, -(-layer.outputs // LANES) * LANES), np.float32) for layer in layers
        ]
        step = Step(
            ctypes.pointer(self.transformer),
            x.ctypes.data,
            rows.ctypes.data,
            lengths.ctypes.data,
            (Output * len(layers))(
                *(Output(layer, out.ctypes.data) for layer, out in zip(layers, found, strict=True))
            ),
            _pointers(adapters),
            address_of(self._workspace),
            *(batch, sequence, len(layers)),
        )
        self._run(thread_pool, step)
        return [out[:, : layer.outputs] for layer, out in zip(layers, found, strict=True)]

    def check_fits(self, rows: np.ndarray, lengths: np.ndarray, sequence: int) -> None:
        """Raises `ValueError` where rows that hold `lengths` positions, the first of `rows`, cannot
        take `sequence` more."""
        fits = len(rows) >= 1 and sequence >= 1
        fits = fits and rows.min() >= 0 and rows.max() < self._slots
        if len(lengths):
            fits = fits and lengths.min() >= 0 and lengths.max() + sequence <= self._positions
        if not fits or len(set(rows.tolist())) < len(rows):
            raise ValueError(
                f"rows {rows} of {self._slots}, which hold {lengths}, cannot take {sequence} more "
                f"of {self._positions} positions"
            )


def _pointers(
    adapters: Sequence[ctypes.Array[LayerAdapter] | None],
) -> ctypes.Array[ctypes.c_void_p] | None:
    """Where each row's adapter has its layers; None where no row has one."""
    if all(adapter is None for adapter in adapters):
        return None
    addresses = [None if adapter is None else ctypes.addressof(adapter) for adapter in adapters]
    return (ctypes.c_void_p * len(addresses))(*addresses)
