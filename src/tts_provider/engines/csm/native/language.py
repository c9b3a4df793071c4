"""The language model on our kernels: weights packed into tiles, and two transformers."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.cpu.language import Language
from tts_provider.engines.csm.cpu.memory import forget_pages
from tts_provider.engines.csm.native.library import (
    LANES,
    WIDEST_HEAD,
    Kernels,
    Layer,
    Linear,
    NoKernels,
    Output,
    Step,
    Transformer,
)
from tts_provider.engines.csm.rope import rope_angles
from tts_provider.errors import StartupError

Weights = Mapping[str, np.ndarray]

_HUGE_PAGE = 2 * 1024 * 1024
_BACKBONE, _DEPTH = "backbone_model", "depth_decoder.model"


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
    """int8 and int4. `check_fits` must have passed; of `weights` nothing is kept."""

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
        self._packed = _Packed(kernels, weights, list(_wanted(config, weights)), threads)
        self._backbone, self._depth = (
            _Transformer(kernels, self._packed, weights, prefix, part, slots, positions, threads)
            for prefix, part, positions in (
                (_BACKBONE, config.backbone, config.positions),
                (_DEPTH, config.depth, config.codebooks + 1),
            )
        )
        self.kv = self._backbone.kv

    def read(
        self, x: np.ndarray, first_row: int, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        heads = [self._packed.layers[name] for name in ("head.0", "projection")]
        logits, projected = self._backbone.run(self._thread_pool, x, first_row, lengths, heads)
        return logits, projected

    def speak(self, x: np.ndarray, codebook: int) -> np.ndarray:
        lengths = np.full(len(x), 0 if codebook == 1 else codebook, np.int32)
        head = self._packed.layers[f"head.{codebook}"]
        return self._depth.run(self._thread_pool, x, 0, lengths, [head])[0]

    def close(self) -> None:
        self._stop()


class _Wanted(NamedTuple):
    """A linear layer and where it is stored: outputs `rows` of the layer `stored`."""

    name: str
    inputs: int
    stored: str
    rows: slice = slice(None)


def _wanted(config: CsmConfig, weights: Weights) -> Iterator[_Wanted]:
    """In the order in which a frame reads them."""
    for prefix, part in ((_BACKBONE, config.backbone), (_DEPTH, config.depth)):
        queries, keys = part.heads * part.head_size, part.kv_heads * part.head_size
        for number in range(part.layers):
            layer = f"{prefix}.layers.{number}"
            if f"{layer}.v.codes" in weights:
                yield _Wanted(f"{layer}.query_key", part.width, f"{layer}.qk")
                yield _Wanted(f"{layer}.value", part.width, f"{layer}.v")
            else:
                first, rest = slice(queries + keys), slice(queries + keys, None)
                yield _Wanted(f"{layer}.query_key", part.width, f"{layer}.qkv", first)
                yield _Wanted(f"{layer}.value", part.width, f"{layer}.qkv", rest)
            yield _Wanted(f"{layer}.output", queries, f"{layer}.o")
            first, rest = slice(part.mlp_width), slice(part.mlp_width, None)
            yield _Wanted(f"{layer}.gate", part.width, f"{layer}.gate_up", first)
            yield _Wanted(f"{layer}.up", part.width, f"{layer}.gate_up", rest)
            yield _Wanted(f"{layer}.down", part.mlp_width, f"{layer}.down")
    yield _Wanted("projection", config.backbone.width, "projection")
    for book in range(config.codebooks):
        width = (config.depth if book else config.backbone).width
        yield _Wanted(f"head.{book}", width, f"head.{book}")


class _Packed:
    """Linear layers in one region of memory, of huge pages where Linux has them to give."""

    def __init__(
        self, kernels: Kernels, weights: Weights, wanted: Sequence[_Wanted], threads: int
    ) -> None:
        self.layers = {want.name: _describe(want, weights) for want in wanted}
        sizes = [kernels.calls.tiles_bytes(layer) for layer in self.layers.values()]
        self._memory = _reserve(sum(sizes) + _HUGE_PAGE)
        with contextlib.suppress(OSError):  # some kernels have no huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        address = _address(self._memory)
        address += -address % _HUGE_PAGE
        for layer, size in zip(self.layers.values(), sizes, strict=True):
            layer.tiles = address
            address += size
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda want: self._pack(kernels, weights, want), wanted))

    def _pack(self, kernels: Kernels, weights: Weights, want: _Wanted) -> None:
        layer = self.layers[want.name]
        codes, scales = (weights[f"{want.stored}.{kind}"] for kind in ("codes", "scales"))
        codes = codes[want.rows]
        scales = scales.reshape(-1, codes.shape[1])[want.rows]
        assert codes.flags.c_contiguous
        assert scales.flags.c_contiguous
        kernels.calls.pack_tiles(layer, codes.ctypes.data, scales.ctypes.data, layer.tiles)
        forget_pages((codes, scales))


def _describe(want: _Wanted, weights: Weights) -> Linear:
    outputs, blocks, row_bytes = weights[f"{want.stored}.codes"][want.rows].shape
    block = want.inputs // blocks
    return Linear(None, outputs, want.inputs, 8 * row_bytes // block, block)


def _reserve(size: int) -> mmap.mmap:
    """Zeros, which cost memory when they are written. Shared memory, the default, would be of small
    pages whatever is asked for."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class _Transformer:
    """One of the two, with its KV buffers."""

    def __init__(
        self,
        kernels: Kernels,
        packed: _Packed,
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
        self.kv = [np.zeros(shape, np.float32) for _ in range(2 * config.layers)]
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
        self._transformer = Transformer(
            *(config.layers, config.width, config.heads, config.kv_heads),
            *(config.head_size, config.mlp_width, positions, config.norm_eps, layers),
            *(norm.ctypes.data, cos.ctypes.data, sin.ctypes.data),
        )
        size = kernels.calls.workspace_bytes(self._transformer, slots, threads)
        self._workspace = _reserve(size)

    def run(
        self,
        thread_pool: int,
        x: np.ndarray,
        first_row: int,
        lengths: np.ndarray,
        layers: Sequence[Linear],
    ) -> list[np.ndarray]:
        """x [B, S, W] → [B, outputs] of each of `layers`, for the last position.

        Raises `ValueError` for what would not fit into the KV buffers.
        """
        batch, sequence, width = x.shape
        fits = batch >= 1 and sequence >= 1 and width == self._width and lengths.shape == (batch,)
        fits = fits and 0 <= first_row <= self._slots - batch
        if not fits or lengths.min() < 0 or lengths.max() + sequence > self._positions:
            raise ValueError(
                f"rows {first_row} … {first_row + batch} of {self._slots}, which hold {lengths}, "
                f"cannot take {x.shape} into {self._positions} positions of width {self._width}"
            )
        x = np.ascontiguousarray(x, np.float32)
        lengths = np.ascontiguousarray(lengths, np.int32)
        found = [
            np.empty((batch, -(-layer.outputs // LANES) * LANES), np.float32) for layer in layers
        ]
        step = Step(
            ctypes.pointer(self._transformer),
            x.ctypes.data,
            lengths.ctypes.data,
            (Output * len(layers))(
                *(Output(layer, out.ctypes.data) for layer, out in zip(layers, found, strict=True))
            ),
            _address(self._workspace),
            *(batch, sequence, first_row, len(layers)),
        )
        self._run(thread_pool, step)
        return [out[:, : layer.outputs] for layer, out in zip(layers, found, strict=True)]
