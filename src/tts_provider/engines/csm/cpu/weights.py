"""The weights as the CPU backend wants them: fused, quantized, tables compact, cached on disk.

A linear layer `name` is stored as `name.codes` + `name.scales` (int8, int4) or `name.weight`,
float32 [in, out]. The cache is one file in safetensors' format, written beside its name and moved
there whole (prepared.py); its checksum is checked before use.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from tts_provider.engines.csm.config import TransformerConfig
from tts_provider.engines.csm.cpu.policy import POLICIES, Kind, Precision
from tts_provider.engines.csm.cpu.prepared import PreparedFolder
from tts_provider.engines.csm.cpu.quantize import Blocks, packed_shapes, quantize
from tts_provider.engines.csm.files.checkpoint import (
    AUDIO_EMBEDDING,
    DEPTH_EMBEDDING,
    Checkpoint,
)
from tts_provider.engines.csm.files.tensors import files_key, read_safetensors
from tts_provider.engines.memory import give_back_freed
from tts_provider.errors import StartupError

_FORMAT = 5  # raise it when what is stored changes
_NAMES = {
    np.dtype(np.float32): "F32",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.uint8): "U8",
}


_CHECK_BYTES = 1024 * 1024  # at a time, so that they stay in the cache


@dataclass(frozen=True)
class _Item:
    """One or two arrays to store, made together when their turn comes."""

    arrays: tuple[tuple[str, np.dtype, tuple[int, ...]], ...]
    make: Callable[[], tuple[np.ndarray, ...]]


def load_weights(
    checkpoint: Checkpoint,
    precision: Precision,
    cache: PreparedFolder | Path,
    on_progress: Callable[[str], None],
) -> Mapping[str, np.ndarray]:
    """The prepared weights, memory-mapped from the cache. If the cache has none, or they are
    damaged, they are prepared first.

    Raises `StartupError` if they cannot be written, `EngineFailed` if preparation was stopped.
    """
    prepared = cache if isinstance(cache, PreparedFolder) else PreparedFolder(cache)
    key = prepared_key(checkpoint, precision)
    path = prepared.path(key)
    if not _is_whole(path, precision, on_progress, prepared):
        with prepared.locked(key, on_progress):
            # Another process may have made it meanwhile.
            if not _is_whole(path, precision, on_progress, prepared):
                on_progress(f"preparing {precision} weights, once")
                items = list(_plan(checkpoint, precision))
                prepared.write(key, lambda file: _write_file(file, items, prepared.check_stop))
        give_back_freed()
        on_progress(f"reading {precision} weights")
    prepared.used(key)
    return {name: tensor.read() for name, tensor in read_safetensors(path).items()}


def _is_whole(
    path: Path,
    precision: Precision,
    on_progress: Callable[[str], None],
    prepared: PreparedFolder,
) -> bool:
    """Whether the prepared weights are there, with the checksum that they were written with."""
    if not path.is_file():
        return False
    on_progress(f"reading {precision} weights")
    problem = _find_damage(path, prepared.check_stop)
    if problem is not None:
        on_progress(f"the prepared weights {path} are damaged ({problem}) and are prepared again")
    return problem is None


def prepared_arrays(
    checkpoint: Checkpoint, precision: Precision
) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of every array that `load_weights` returns; nothing is read."""
    return {
        name: (dtype, shape)
        for item in _plan(checkpoint, precision)
        for name, dtype, shape in item.arrays
    }


def prepared_key(checkpoint: Checkpoint, precision: Precision) -> str:
    """What the prepared weights depend on: files, dimensions, how each layer is stored, our
    format."""
    facts = _FORMAT, asdict(POLICIES[precision]), asdict(checkpoint.config)
    return f"csm-{precision}-{files_key(checkpoint.tensors, *facts)}"


def _plan(checkpoint: Checkpoint, precision: Precision) -> Iterator[_Item]:
    config, read = checkpoint.config, checkpoint.read
    table = np.dtype(np.float32 if precision == "float32" else ml_dtypes.bfloat16)
    policy = POLICIES[precision]

    for prefix, part, mix in (
        ("backbone_model", config.backbone, policy.backbone),
        ("depth_decoder.model", config.depth, policy.depth),
    ):
        for number in range(part.layers):
            blocks = functools.partial(mix.blocks, layer=number, layers=part.layers)
            yield from _layer(checkpoint, f"{prefix}.layers.{number}", part, blocks)
        yield _plain(f"{prefix}.norm", np.dtype(np.float32), (part.width,), read)

    projector = "depth_decoder.model.inputs_embeds_projector"
    width, depth_width = config.backbone.width, config.depth.width
    yield _linear(
        "projection", depth_width, width, policy.head, lambda: read(f"{projector}.weight")
    )
    yield _linear(
        "head.0", config.audio_vocabulary, width, policy.head, lambda: read("lm_head.weight")
    )
    heads = functools.cache(lambda: read("depth_decoder.codebooks_head.weight"))
    for book in range(1, config.codebooks):
        yield _linear(
            f"head.{book}",
            config.audio_vocabulary,
            depth_width,
            policy.head,
            functools.partial(_head, heads, book),
        )

    text, audio = "embed_text_tokens", AUDIO_EMBEDDING.removesuffix(".weight")
    audio_rows = config.audio_vocabulary * config.codebooks
    yield _plain(text, table, (config.text_vocabulary, width), read)
    yield _plain(audio, table, (audio_rows, width), read)

    def projected() -> tuple[np.ndarray]:
        read_rows = read(DEPTH_EMBEDDING)
        projection = read(f"{projector}.weight").astype(np.float32).T
        out = np.empty((audio_rows, depth_width), table)
        for start in range(0, audio_rows, 4096):
            rows = read_rows[start : start + 4096].astype(np.float32)
            out[start : start + 4096] = (rows @ projection).astype(table)
        return (out,)

    # The depth decoder reads every audio embedding through the projection: folded in, once.
    yield _Item((("depth_embeddings", table, (audio_rows, depth_width)),), projected)


def _head(heads: Callable[[], np.ndarray], book: int) -> np.ndarray:
    head: np.ndarray = heads()[book - 1].T
    return head


def _layer(
    checkpoint: Checkpoint,
    layer: str,
    part: TransformerConfig,
    blocks: Callable[[Kind], Blocks | None],
) -> Iterator[_Item]:
    def fused(name: str, rows: int, width: int, kind: Kind, *names: str) -> _Item:
        def read() -> np.ndarray:
            return np.concatenate([checkpoint.read(f"{layer}.{n}.weight") for n in names])

        return _linear(f"{layer}.{name}", rows, width, blocks(kind), read)

    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield _plain(f"{layer}.{norm}", np.dtype(np.float32), (part.width,), checkpoint.read)
    heads, kv = part.heads * part.head_size, part.kv_heads * part.head_size
    q, k, v = (f"self_attn.{name}_proj" for name in "qkv")
    if blocks("v") == blocks("qk"):
        yield fused("qkv", heads + 2 * kv, part.width, "qk", q, k, v)
    else:
        yield fused("qk", heads + kv, part.width, "qk", q, k)
        yield fused("v", kv, part.width, "v", v)
    yield fused("o", part.width, heads, "o", "self_attn.o_proj")
    gate_up = "mlp.gate_proj", "mlp.up_proj"
    yield fused("gate_up", 2 * part.mlp_width, part.width, "gate_up", *gate_up)
    yield fused("down", part.width, part.mlp_width, "down", "mlp.down_proj")


def _plain(
    name: str, dtype: np.dtype, shape: tuple[int, ...], read: Callable[[str], np.ndarray]
) -> _Item:
    return _Item(((name, dtype, shape),), lambda: (read(f"{name}.weight").astype(dtype),))


def _linear(
    name: str, rows: int, width: int, blocks: Blocks | None, read: Callable[[], np.ndarray]
) -> _Item:
    """A linear layer of `rows` outputs; `read` gives its weights, (rows, width)."""
    if blocks is None:
        weight = (f"{name}.weight", np.dtype(np.float32), (width, rows))
        return _Item((weight,), lambda: (read().astype(np.float32).T,))
    fitting = blocks.fit(width)
    codes, scales = packed_shapes(rows, width, fitting)
    arrays = (
        (f"{name}.codes", np.dtype(np.uint8), codes),
        (f"{name}.scales", np.dtype(np.float32), scales),
    )
    return _Item(arrays, lambda: quantize(np.ascontiguousarray(read()), fitting))


# The cache file


def _write_file(path: Path, items: list[_Item], check_stop: Callable[[], None]) -> None:
    header: dict[str, object] = {"__metadata__": {"crc32": "00000000"}}
    position = 0
    for item in items:
        for name, dtype, shape in item.arrays:
            end = position + int(np.prod(shape)) * dtype.itemsize
            header[name] = {
                "dtype": _NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [position, end],
            }
            position = end
    with path.open("wb") as file:
        file.write(_header_bytes(header))
        checksum = 0
        for item in items:
            check_stop()
            for (name, dtype, shape), array in zip(item.arrays, item.make(), strict=True):
                assert (array.dtype, array.shape) == (dtype, shape), name
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                checksum = zlib.crc32(data, checksum)
                file.write(data)
        header["__metadata__"] = {"crc32": f"{checksum:08x}"}
        file.seek(0)
        file.write(_header_bytes(header))
        file.flush()
        os.fsync(file.fileno())


def _header_bytes(header: Mapping[str, object]) -> bytes:
    body = json.dumps(header).encode()
    body += b" " * (-len(body) % 64)  # the data starts aligned
    return len(body).to_bytes(8, "little") + body


def _find_damage(path: Path, check_stop: Callable[[], None]) -> str | None:
    """What is wrong with the file, by its own checksum; None if nothing is."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            expected, found = header["__metadata__"]["crc32"], 0
            buffer = memoryview(bytearray(_CHECK_BYTES))
            while count := file.readinto(buffer):
                check_stop()
                found = zlib.crc32(buffer[:count], found)
        if f"{found:08x}" != expected:
            return "its checksum is wrong"
        read_safetensors(path)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        return str(error) or type(error).__name__
    except StartupError as error:
        return str(error)
    return None
