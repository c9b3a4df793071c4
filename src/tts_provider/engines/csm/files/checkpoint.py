"""Reads any published layout of the weights as one canonical map of tensors.

Canonical names are those of the transformers layout, with query and key rows in half-split RoPE
order. Tensors are memory-mapped: nothing is read until it is used. Layouts are told apart by tensor
names, never by file names.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_provider.engines.csm.config import (
    CSM_1B,
    CsmConfig,
    MimiConfig,
    TransformerConfig,
    read_config,
    read_mimi_config,
)
from tts_provider.engines.csm.files.adapter import Adapter, read_adapter
from tts_provider.engines.csm.files.layout import WeightFiles, check_is_plain, find_weight_files
from tts_provider.engines.csm.files.names import find_clash, is_harmless, plain_name
from tts_provider.engines.csm.files.tensors import (
    Tensor,
    read_finite,
    read_metadata,
    read_safetensors,
)
from tts_provider.errors import StartupError

log = logging.getLogger(__name__)

CODEC = "codec_model."
DEPTH_EMBEDDING = "depth_decoder.model.embed_tokens.weight"
AUDIO_EMBEDDING = "backbone_model.embed_tokens.embed_audio_tokens.weight"


@dataclass(frozen=True)
class Checkpoint:
    config: CsmConfig
    tensors: Mapping[str, Tensor]
    codec: Mapping[str, Tensor]
    """The codec's tensors without their prefix; empty where the layout has none."""
    codec_changes: Adapter | None = None
    """What an adapter changes of a codec that lies elsewhere."""

    def read(self, name: str) -> np.ndarray:
        """The tensor as stored. Raises `StartupError` where it has values that are no numbers."""
        return read_finite(name, self.tensors[name])


def open_checkpoint(folder: Path, adapter: Path | None = None) -> Checkpoint:
    """Open the model in `folder`, whichever layout it has; check names and shapes. `adapter` is
    the folder of a LoRA adapter, which is merged into it as it is read.

    Raises `StartupError`: one sentence that names the file and the remedy.
    """
    found, files = _find_tensors(folder)
    config_path = folder / "config.json"
    if any(name.startswith("backbone_model.") for name in found):
        config = read_config(config_path)
        tensors = dict(found)
    elif "text_embeddings.weight" in found:
        config = read_config(config_path) if config_path.is_file() else CSM_1B
        tensors = dict(_canonical_from_original(found, config))
    else:
        some = ", ".join(sorted(found)[:3]) or "nothing"
        raise StartupError(
            f"{folder} holds a model of another architecture (tensors {some[:200]}, …); "
            "point --model-path at a folder of sesame/csm-1b"
        )
    if files.others:
        log.info(
            "%s holds several models; %s is read, not %s",
            folder,
            files.paths[0].name,
            ", ".join(files.others),
        )
    tensors = {name: tensor for name, tensor in tensors.items() if not is_harmless(name)}
    codec = {name: tensors.pop(name) for name in sorted(tensors) if name.startswith(CODEC)}
    # One table under two names; a checkpoint may hold both, and training may have made them differ.
    for name, other in (
        (AUDIO_EMBEDDING, DEPTH_EMBEDDING),
        (DEPTH_EMBEDDING, AUDIO_EMBEDDING),
    ):
        if other in tensors:
            tensors.setdefault(name, tensors[other])
    _check(folder, tensors, expected_shapes(config))
    changes = None if adapter is None else read_adapter(adapter)
    if changes is not None:
        tensors = changes.part(codec=False).merge(tensors)
        changes = changes.part(codec=True)
        if codec:
            codec = changes.merge(codec)
    return Checkpoint(
        config,
        tensors,
        {name.removeprefix(CODEC): tensor for name, tensor in codec.items()},
        None if codec and config.mimi is not None else changes,
    )


def find_codec(
    checkpoint: Checkpoint, folder: Path | None
) -> tuple[MimiConfig, Mapping[str, Tensor]]:
    """The codec's dimensions and tensors: from the checkpoint itself, else from `folder`.

    Raises `StartupError` if there is none or it is not complete.
    """
    if checkpoint.codec and checkpoint.config.mimi is not None:
        config, codec = checkpoint.config.mimi, checkpoint.codec
    elif folder is not None:
        config = read_mimi_config(folder / "config.json")
        codec = read_safetensors(folder / "model.safetensors")
        if checkpoint.codec_changes is not None:
            named = {f"{CODEC}{name}": tensor for name, tensor in codec.items()}
            merged = checkpoint.codec_changes.merge(named)
            codec = {name.removeprefix(CODEC): tensor for name, tensor in merged.items()}
    else:
        raise StartupError("the model's folder holds no codec; download kyutai/mimi into it")
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
    for tensor in codec.values():
        if tensor.problem is not None:
            raise StartupError(tensor.problem)
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
        AUDIO_EMBEDDING: (audio_rows, width),
        DEPTH_EMBEDDING: (audio_rows, width),
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
        if (problem := tensors[name].problem) is not None:
            raise StartupError(problem)
        if tensors[name].shape != shape:
            raise StartupError(
                f"{tensors[name].source}: tensor {name} has the shape {tensors[name].shape}, "
                f"config.json requires {shape}"
            )


# The original layout

_ORIGINAL_NAMES = {
    "text_embeddings.weight": "embed_text_tokens.weight",
    "audio_embeddings.weight": AUDIO_EMBEDDING,
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
    """RoPE pairs from neighbors (2i, 2i+1) to halves (i, i + size/2), head by head."""

    def read() -> np.ndarray:
        rows = tensor.read()
        pairs = rows.reshape(-1, head_size // 2, 2, rows.shape[1])  # [heads, pair, 2, width]
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)

    return Tensor(tensor.source, tensor.shape, read)


# Files


def _find_tensors(folder: Path) -> tuple[dict[str, Tensor], WeightFiles]:
    """All tensors of the folder's weights, without the prefixes that wrappers add."""
    files = find_weight_files(folder)
    found: dict[str, Tensor] = {}
    for path in files.paths:
        found |= _read_file(path)
    if clash := find_clash(found):
        raise StartupError(
            f"{files.paths[0]} holds the tensor {plain_name(clash[0])} twice, as {clash[0][:120]} "
            f"and as {clash[1][:120]}; save one model alone"
        )
    return {plain_name(name): tensor for name, tensor in found.items()}, files


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pt":
        from tts_provider.engines.csm.files.ckpt import read_ckpt

        return {
            name: Tensor(path, array.shape, functools.partial(np.asarray, array))
            for name, array in read_ckpt(path).items()
        }
    tensors = read_safetensors(path)
    check_is_plain(path, set(tensors), read_metadata(path))
    return tensors
