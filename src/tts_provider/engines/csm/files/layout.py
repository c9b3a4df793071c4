"""Which files of a folder hold the weights, in every layout that people have; what no engine here
reads is said by its name.

The order is transformers' (`_get_resolved_checkpoint_files`): the file that config.json names, then
`model.safetensors`, then its index. `sesame/csm-1b` keeps two models in one folder, and names the
newer one `transformers…`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.errors import StartupError, UnreadableFile

_INDEXES = ("transformers.safetensors.index.json", "model.safetensors.index.json")
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PICKLE = "ckpt.pt"


@dataclass(frozen=True)
class Layout:
    """A way in which a model's weights are published."""

    files: tuple[str, ...]
    """Patterns of all its files; a repository that has one of the first is asked for these."""
    names: tuple[str, ...]
    """What a folder has of it: an index, or the only file."""


LAYOUTS = (
    Layout(("transformers*.safetensors", _INDEXES[0]), (_INDEXES[0], "transformers.safetensors")),
    Layout(("model.safetensors",), ("model.safetensors",)),
    Layout(("model-*-of-*.safetensors", _INDEXES[1]), (_INDEXES[1],)),
    Layout(("ckpt.safetensors",), ("ckpt.safetensors",)),
    Layout((_PICKLE,), (_PICKLE,)),
)
"""Best first; where there is one no other is read or fetched."""
_NAMES = tuple(name for layout in LAYOUTS for name in layout.names)
# A pickle is the last choice.
_NAMED = tuple(name for name in _NAMES if name != _PICKLE)
# Files that trainers leave beside the weights.
_NO_WEIGHTS = re.compile(r"adapter_model.*|optimizer.*|.*-\d+-of-\d+\.safetensors")
_POINTER = b"version https://git-lfs.github.com"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_AS_SAFETENSORS = "convert it with save_pretrained(FOLDER, safe_serialization=True)"
# Files that other programs read, by the end of their names.
_FOREIGN = {
    ".gguf": "GGUF weights, which llama.cpp and its kin read",
    ".npz": "MLX weights for Apple's machines",
    ".onnx": "an ONNX graph",
}
_PICKLES = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class WeightFiles:
    """The files to read, and what else the folder has that could have been meant."""

    paths: tuple[Path, ...]
    others: tuple[str, ...] = ()


def find_weight_files(folder: Path) -> WeightFiles:
    """Find the files that hold the weights of the model in `folder`, and check that all are there.

    Raises `StartupError`, which says what is there instead and what to do.
    """
    if not folder.is_dir():
        raise StartupError(f"{folder} is no folder; give the folder of a model")
    config = read_json_object(folder / "config.json")
    _check_config(folder, config)
    named = config.get("transformers_weights")
    if named is not None:
        if not isinstance(named, str) or Path(named).name != named:
            raise StartupError(
                f"{folder / 'config.json'}: transformers_weights must name a file beside it, "
                f"got {str(named)[:60]!r}"
            )
        if not is_there(folder / named):
            raise StartupError(
                f"{folder} is not complete: {named}, which its config.json names as "
                f"transformers_weights, is missing; {remedy(folder)}"
            )
        return _with_others(folder, named)
    for name in _NAMED:
        if is_there(folder / name):
            return _with_others(folder, name)
    single = [
        path
        for path in sorted(folder.glob("*.safetensors"))
        if not _NO_WEIGHTS.fullmatch(path.name) and is_there(path)
    ]
    if len(single) == 1:
        return WeightFiles((single[0],))
    if single:
        raise StartupError(
            f"{folder} holds {len(single)} safetensors files ({single[0].name}, {single[1].name}"
            f"{', …' if len(single) > 2 else ''}) and none has a name that says it is the model; "
            "rename the one you mean to model.safetensors"
        )
    if is_there(folder / _PICKLE):
        return WeightFiles((folder / _PICKLE,))
    raise _nothing_to_read(folder)


def has_weights(folder: Path) -> bool:
    """Whether `folder` holds a model of its own, complete or not."""
    try:
        find_weight_files(folder)
    except StartupError:
        return any((folder / name).exists() for name in _NAMES)
    return True


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter, as peft's `save_pretrained` writes one."""
    return (folder / ADAPTER_CONFIG).exists() or (folder / ADAPTER_WEIGHTS).exists()


def is_there(path: Path) -> bool:
    """Whether the file is there. Raises `StartupError` if only its name is."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise StartupError(
                    f"{path} is a Git LFS pointer, not the file itself; "
                    f"run `git lfs pull` in {path.parent}"
                )
        return True
    if path.is_symlink():
        raise StartupError(
            f"{path.parent} is not complete: {path.name} is a link to a file that has not "
            f"arrived; {remedy(path.parent)}"
        )
    return False


def remedy(folder: Path) -> str:
    if folder.parent.name == "snapshots":
        return "--mode download fetches what is missing"
    return f"copy the files of {CSM_REPOSITORY} there, or fetch them with --mode download"


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file. Raises `StartupError`."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read ({error}); download it again") from None
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path} cannot be read ({error}); download it again") from None
    if not isinstance(body, dict):
        raise StartupError(f"{path} holds no JSON object; download it again")
    return body


def newest_checkpoint(folder: Path) -> Path | None:
    """The folder of the trainer's last checkpoint that has a model or an adapter."""
    steps = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _CHECKPOINT.fullmatch(path.name)) and path.is_dir()
    ]
    whole = [(n, path) for n, path in steps if is_adapter(path) or has_weights(path)]
    return max(whole)[1] if whole else None


def _with_others(folder: Path, name: str) -> WeightFiles:
    path = folder / name
    if name.endswith(".index.json"):
        shards = _read_shards(path)
        if missing := [shard for shard in shards if not is_there(folder / shard)]:
            raise StartupError(
                f"{folder} is not complete: {missing[0]} is missing, and {len(missing)} of "
                f"{len(shards)} weight files in all, which {name} names; {remedy(folder)}"
            )
        paths = tuple(folder / shard for shard in shards)
    else:
        paths = (path,)
    others = tuple(
        other
        for other in _NAMES
        if other != name and folder / other not in paths and (folder / other).is_file()
    )
    return WeightFiles(paths, others)


def _read_shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("it names no files of its folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StartupError(f"{index} is no index of weights ({error}); download it again") from None
    return names


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights that are quantized already: their numbers alone are not the weights."""
    for key in ("quantization_config", "quantization"):
        found = config.get(key)
        if not found:
            continue
        if key == "quantization":
            kind = "MLX"
        else:
            kind = str(found.get("quant_method", "?"))[:30] if isinstance(found, dict) else "?"
        raise StartupError(_quantized(folder, kind))


def _quantized(place: Path, kind: str) -> str:
    return (
        f"{place} holds weights quantized by {kind}, which this engine does not read; use the "
        "unquantized model (--precision int8 or int4 quantizes it here)"
    )


def check_is_plain(path: Path, names: set[str], metadata: Mapping[str, Any]) -> None:
    """Refuse what the file's own names and metadata say is quantized, MLX's or an unmerged adapter.

    Raises `StartupError`.
    """
    if metadata.get("format") == "mlx":
        raise StartupError(
            f"{path} was written by MLX for Apple's machines, with names of its own; use the model "
            "that it was converted from"
        )
    for name in sorted(names):
        if re.search(r"\.(absmax|quant_map|SCB|quant_state\.\w+)$", name):
            raise StartupError(_quantized(path, "bitsandbytes"))
        if re.search(r"\.(qweight|qzeros|g_idx)$", name):
            raise StartupError(_quantized(path, "GPTQ or AWQ"))
        if re.search(r"\.(lora_[AB]|base_layer|lora_embedding_[AB])(\.|$)", name):
            raise StartupError(
                f"{path} holds an adapter that was not merged (tensor {name[:100]}); save it with "
                "merge_and_unload(), or save the adapter alone and give it as --adapter FOLDER"
            )


def _nothing_to_read(folder: Path) -> StartupError:
    if (newest := newest_checkpoint(folder)) is not None:
        return StartupError(
            f"{folder} is a trainer's folder without a model of its own; give its newest "
            f"checkpoint: {newest}"
        )
    if parts := sorted(folder.glob("*-of-*.safetensors")):
        return StartupError(
            f"{folder} is not complete: it has {parts[0].name} and no index that names its parts "
            f"({' or '.join(_INDEXES)}); {remedy(folder)}"
        )
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if (about := _FOREIGN.get(path.suffix)) is not None:
            return StartupError(
                f"{path} holds {about}; this engine reads safetensors files: use the model that "
                "it was converted from"
            )
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.suffix in _PICKLES and not path.stem.startswith("training_args"):
            return StartupError(
                f"{path} is a PyTorch pickle, which can run code when it is read; "
                f"{_AS_SAFETENSORS}, or rename it to {_PICKLE} if it is one of the original layout"
            )
    return StartupError(
        f"{folder} holds no model: none of {', '.join((*_INDEXES, 'transformers.safetensors'))}, "
        f"model.safetensors, {_PICKLE} is there; {remedy(folder)}"
    )
