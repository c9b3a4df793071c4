"""Any published layout of the weights → one canonical tensor map.

Canonical names are the transformers layout's, query and key rows in half-split RoPE order. Tensors
are memory-mapped: nothing is read until it is used. Layouts are told apart by tensor names, never
by file names.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from tts_provider.engines.csm.config import (
    CSM_1B,
    CsmConfig,
    MimiConfig,
    TransformerConfig,
    read_config,
    read_mimi_config,
)
from tts_provider.errors import StartupError

_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U8": np.dtype(np.uint8),  # our own prepared weights
}
_CODEC = "codec_model."
_DEPTH_EMBEDDING = "depth_decoder.model.embed_tokens.weight"
_AUDIO_EMBEDDING = "backbone_model.embed_tokens.embed_audio_tokens.weight"
_MAX_HEADER_BYTES = 100 * 1024 * 1024  # safetensors' own limit


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, read when asked for."""

    source: Path
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    config: CsmConfig
    tensors: Mapping[str, Tensor]
    codec: Mapping[str, Tensor]
    """The codec's tensors without their prefix; empty where the layout has none."""

    def read(self, name: str) -> np.ndarray:
        """The tensor as stored. Raises `StartupError` where it has values that are no numbers."""
        return read_finite(name, self.tensors[name])


def files_key(tensors: Mapping[str, Tensor], *facts: object) -> str:
    """Names these files as they are now, and whatever else matters: 16 hexadecimal digits."""
    files = sorted({tensor.source.resolve() for tensor in tensors.values()})
    about = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([about, *facts], sort_keys=True).encode()).hexdigest()[:16]


def read_finite(name: str, tensor: Tensor) -> np.ndarray:
    array = tensor.read()
    # One piece at a time: a table of a gigabyte needs no copy of a gigabyte.
    for start in range(0, len(array), 4096):
        if not np.isfinite(array[start : start + 4096].astype(np.float32)).all():
            raise StartupError(
                f"{tensor.source}: tensor {name} holds values that are not numbers; "
                "download the model again"
            )
    return array


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open the model in `folder`, whichever layout it has; check names and shapes.

    Raises `StartupError`: one sentence that names the file and the remedy.
    """
    found = _find_tensors(folder)
    if any(name.startswith("backbone_model.") for name in found):
        config = read_config(folder / "config.json")
        tensors = dict(found)
    elif "text_embeddings.weight" in found:
        config_path = folder / "config.json"
        config = read_config(config_path) if config_path.is_file() else CSM_1B
        tensors = dict(_canonical_from_original(found, config))
    else:
        some = ", ".join(sorted(found)[:3]) or "nothing"
        raise StartupError(
            f"{folder} holds a model of another architecture (tensors {some}, …); "
            "point --model-path at a folder of sesame/csm-1b"
        )
    codec = {
        name.removeprefix(_CODEC): tensors.pop(name)
        for name in sorted(tensors)
        if name.startswith(_CODEC)
    }
    # One table under two names; a checkpoint may hold both or either.
    tied = tensors.pop(_DEPTH_EMBEDDING, None)
    if tied is not None:
        tensors.setdefault(_AUDIO_EMBEDDING, tied)
    _check(folder, tensors, expected_shapes(config))
    return Checkpoint(config, tensors, codec)


def find_codec(
    checkpoint: Checkpoint, folder: Path | None
) -> tuple[MimiConfig, Mapping[str, Tensor]]:
    """The codec's dimensions and tensors: the checkpoint's own, else those in `folder`.

    Raises `StartupError` where there is none or it is not whole.
    """
    if checkpoint.codec and checkpoint.config.mimi is not None:
        config, codec = checkpoint.config.mimi, checkpoint.codec
    elif folder is not None:
        config = read_mimi_config(folder / "config.json")
        codec = read_safetensors(folder / "model.safetensors")
    else:
        raise StartupError("the model's folder holds no codec; download kyutai/mimi beside it")
    needed = ["upsample.conv.weight", "downsample.conv.weight"]
    for kind, books in (
        ("semantic", config.semantic_codebooks),
        ("acoustic", config.codebooks - config.semantic_codebooks),
    ):
        needed += [
            f"quantizer.{kind}_residual_vector_quantizer.layers.{book}.codebook.embed_sum"
            for book in range(books)
        ]
    for side in ("encoder", "decoder"):
        for layer in range(config.layers):
            needed.append(f"{side}_transformer.layers.{layer}.self_attn.q_proj.weight")
    if missing := [name for name in needed if name not in codec]:
        raise StartupError(
            f"the codec lacks {len(missing)} tensors, for one {missing[0]}; download it again"
        )
    return config, codec


def read_all(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Every tensor, checked to hold numbers only. Raises `StartupError`."""
    return {name: read_finite(name, tensor) for name, tensor in tensors.items()}


def expected_shapes(config: CsmConfig) -> dict[str, tuple[int, ...]]:
    """Every canonical tensor of the language model and its shape."""
    width, depth_width = config.backbone.width, config.depth.width
    audio_rows = config.audio_vocabulary * config.codebooks
    shapes: dict[str, tuple[int, ...]] = {
        "embed_text_tokens.weight": (config.text_vocabulary, width),
        _AUDIO_EMBEDDING: (audio_rows, width),
        "backbone_model.norm.weight": (width,),
        "lm_head.weight": (config.audio_vocabulary, width),
        "depth_decoder.model.norm.weight": (depth_width,),
        "depth_decoder.model.inputs_embeds_projector.weight": (depth_width, width),
        "depth_decoder.codebooks_head.weight": (
            config.codebooks - 1,
            depth_width,
            config.audio_vocabulary,
        ),
    }
    for prefix, part in (
        ("backbone_model", config.backbone),
        ("depth_decoder.model", config.depth),
    ):
        for layer in range(part.layers):
            for name, shape in _layer_shapes(part).items():
                shapes[f"{prefix}.layers.{layer}.{name}.weight"] = shape
    return shapes


def _layer_shapes(part: TransformerConfig) -> dict[str, tuple[int, ...]]:
    heads, kv = part.heads * part.head_size, part.kv_heads * part.head_size
    return {
        "self_attn.q_proj": (heads, part.width),
        "self_attn.k_proj": (kv, part.width),
        "self_attn.v_proj": (kv, part.width),
        "self_attn.o_proj": (part.width, heads),
        "mlp.gate_proj": (part.mlp_width, part.width),
        "mlp.up_proj": (part.mlp_width, part.width),
        "mlp.down_proj": (part.width, part.mlp_width),
        "input_layernorm": (part.width,),
        "post_attention_layernorm": (part.width,),
    }


def _check(
    folder: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if missing := sorted(set(shapes) - set(tensors)):
        raise StartupError(
            f"{folder} lacks {len(missing)} tensors of the model, for one {missing[0]}; "
            "download the model again"
        )
    if extra := sorted(set(tensors) - set(shapes)):
        raise StartupError(
            f"{tensors[extra[0]].source} has {len(extra)} tensors that this model does not know, "
            f"for one {extra[0]}; is it another model?"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise StartupError(
                f"{tensors[name].source}: tensor {name} has the shape {tensors[name].shape}, "
                f"config.json asks for {shape}"
            )


# The original layout

_ORIGINAL_NAMES = {
    "text_embeddings.weight": "embed_text_tokens.weight",
    "audio_embeddings.weight": _AUDIO_EMBEDDING,
    "projection.weight": "depth_decoder.model.inputs_embeds_projector.weight",
    "codebook0_head.weight": "lm_head.weight",
    "audio_head": "depth_decoder.codebooks_head.weight",
    "backbone.norm.scale": "backbone_model.norm.weight",
    "decoder.norm.scale": "depth_decoder.model.norm.weight",
}
_ORIGINAL_LAYER = {
    "attn.q_proj.weight": "self_attn.q_proj",
    "attn.k_proj.weight": "self_attn.k_proj",
    "attn.v_proj.weight": "self_attn.v_proj",
    "attn.output_proj.weight": "self_attn.o_proj",
    "mlp.w1.weight": "mlp.gate_proj",
    "mlp.w2.weight": "mlp.down_proj",
    "mlp.w3.weight": "mlp.up_proj",
    "sa_norm.scale": "input_layernorm",
    "mlp_norm.scale": "post_attention_layernorm",
}
_ORIGINAL_LAYER_NAME = re.compile(r"(backbone|decoder)\.layers\.(\d+)\.(.+)")


def _canonical_from_original(
    found: Mapping[str, Tensor], config: CsmConfig
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in found.items():
        if name in _ORIGINAL_NAMES:
            yield _ORIGINAL_NAMES[name], tensor
            continue
        match = _ORIGINAL_LAYER_NAME.fullmatch(name)
        if match is None or match[3] not in _ORIGINAL_LAYER:
            yield name, tensor  # `_check` says that nobody knows it
            continue
        part = config.backbone if match[1] == "backbone" else config.depth
        prefix = "backbone_model" if match[1] == "backbone" else "depth_decoder.model"
        own = _ORIGINAL_LAYER[match[3]]
        if own in ("self_attn.q_proj", "self_attn.k_proj"):
            tensor = _half_split(tensor, part.head_size)
        yield f"{prefix}.layers.{match[2]}.{own}.weight", tensor


def _half_split(tensor: Tensor, head_size: int) -> Tensor:
    """RoPE pairs from neighbours (2i, 2i+1) to halves (i, i + size/2), head by head."""

    def read() -> np.ndarray:
        rows = tensor.read()
        pairs = rows.reshape(-1, head_size // 2, 2, rows.shape[1])  # [heads, pair, 2, width]
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)

    return Tensor(tensor.source, tensor.shape, read)


# Files


def _find_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's weights; an index before single files, the transformers layout
    before the original one, safetensors before a pickle."""
    for name in ("transformers.safetensors.index.json", "model.safetensors.index.json"):
        if (folder / name).is_file():
            return _read_index(folder / name)
    for name in ("transformers.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return read_safetensors(folder / name)
    pickle = folder / "ckpt.pt"
    if pickle.is_file():
        from tts_provider.engines.csm.files.ckpt import read_ckpt

        return {
            name: Tensor(pickle, array.shape, functools.partial(np.asarray, array))
            for name, array in read_ckpt(pickle).items()
        }
    raise StartupError(
        f"{folder} holds no model: neither *.safetensors nor ckpt.pt is there; "
        "point --model-path at a folder of sesame/csm-1b"
    )


def _read_index(path: Path) -> dict[str, Tensor]:
    try:
        weight_map = json.loads(path.read_text("utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file outside the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartupError(f"{path} is no index of weights ({error}); download it again") from None
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not (path.parent / name).is_file():
            raise StartupError(
                f"{path.parent} is not complete: {name} is missing; download the model again"
            )
        tensors |= read_safetensors(path.parent / name)
    if lost := sorted(set(weight_map) - set(tensors)):
        raise StartupError(f"{path} promises {lost[0]}, which no file has; download it again")
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, memory-mapped; the header is checked against the file's size.

    https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header, the data. Our
    own reader because the library's cannot map bfloat16 into numpy.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("the file is cut short")
            header = json.loads(file.read(header_bytes))
    except (OSError, ValueError) as error:
        raise StartupError(f"{path} cannot be read ({error}); download it again") from None
    data_start = 8 + header_bytes
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
            start, end = map(int, entry["data_offsets"])
        except (KeyError, TypeError, ValueError):
            raise StartupError(
                f"{path}: tensor {name} is described as {str(entry)[:80]}, which this engine "
                "cannot read"
            ) from None
        if end - start != math.prod(shape) * dtype.itemsize or start < 0:
            raise StartupError(f"{path}: tensor {name} has a wrong size; download it again")
        if data_start + end > size:
            raise StartupError(
                f"{path} is cut short at {size} bytes, tensor {name} ends at {data_start + end}; "
                "download it again"
            )
        tensors[name] = Tensor(path, shape, _mapped(path, dtype, shape, data_start + start))
    return tensors


def _mapped(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int
) -> Callable[[], np.ndarray]:
    return lambda: np.memmap(path, dtype, "r", offset, shape)
