"""A LoRA adapter, as peft's `save_pretrained` writes it, merged into the weights as they are read.

`adapter_config.json` says how, `adapter_model.safetensors` holds A (rank, in) and B (out, rank) of
each layer: W + scale · B·A, where the scale is alpha / rank, or alpha / √rank (rsLoRA). Layers of
`modules_to_save` are there whole. What an adapter may say and is not done here is refused by name:
without it another voice would speak than the one that was trained.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tts_provider.engines.csm.files.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    is_there,
    read_json_object,
)
from tts_provider.engines.csm.files.names import plain_name
from tts_provider.engines.csm.files.tensors import Tensor, read_finite, read_safetensors
from tts_provider.errors import StartupError

log = logging.getLogger(__name__)

# Fields of peft's LoraConfig that say nothing about the product, or are read below. Any other one
# that is set is refused.
_UNDERSTOOD = frozenset(
    (
        *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config"),
        *("ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out"),
        *("inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform"),
        *("lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save"),
        *("peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision"),
        *("runtime_config", "target_modules", "task_type", "use_rslora", "unsloth_fixed"),
    )
)
_NAMES = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "lora_bias": "LoRA with biases (lora_bias)",
    "loftq_config": "LoftQ",
}
# These ways to start change the base's own weights before the training.
_CHANGES_THE_BASE = re.compile(r"pissa.*|olora|corda|loftq|lora_ga")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B)(?:\.default)?\.weight"
    r"|(?P<table>.+)\.(?P<table_part>lora_embedding_A|lora_embedding_B)(?:\.default)?"
)
_WHOLE = re.compile(r"\.modules_to_save(?:\.default)?\.|\.base_layer\.")
_MAX_PATTERN_CHARACTERS = 200


@dataclass(frozen=True)
class _Change:
    """What happens to one tensor: replaced as a whole, then a product added to it."""

    whole: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    is_table: bool = False
    """Of an embedding, whose product lies the other way: (width, rank) · (rank, entries)."""
    module: str = ""
    """What peft calls the layer, for the patterns of the configuration."""
    scale: float = 0.0


@dataclass(frozen=True)
class Adapter:
    folder: Path
    base: str | None
    """The repository or folder that it was trained on, as its configuration says."""
    revision: str | None
    changes: Mapping[str, _Change] = field(repr=False)
    """By canonical names, the codec's with `codec_model.` before."""

    def merge(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `tensors`, with the adapter's changes merged when they are read.

        Raises `StartupError` if shapes do not fit, or the adapter has what `tensors` lack.
        """
        merged = dict(tensors)
        for name, change in self.changes.items():
            if name not in tensors:
                raise StartupError(
                    f"{self.folder} changes {name[:120]}, which the base model does not have; is "
                    "it the adapter of another model?"
                )
            merged[name] = self._merged(name, tensors[name], change)
        return merged

    def part(self, *, codec: bool) -> Adapter:
        """The part of the adapter that changes the codec, or the part that changes everything
        else."""
        return replace(
            self,
            changes={
                name: change
                for name, change in self.changes.items()
                if name.startswith("codec_model.") == codec
            },
        )

    def product(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A [rank, inputs] and scale · B [outputs, rank], float32, whose product B·A is all that it
        changes of the matrix `name`; None where it changes it otherwise.

        Raises `StartupError` where they have values that are no numbers.
        """
        change = self.changes[name]
        if change.whole is not None or change.a is None or change.b is None or change.is_table:
            return None
        a, b = (read_finite(name, part).astype(np.float32) for part in (change.a, change.b))
        return a, np.float32(change.scale) * b

    def _merged(self, name: str, tensor: Tensor, change: _Change) -> Tensor:
        whole, a, b = change.whole or tensor, change.a, change.b
        if whole.shape != tensor.shape:
            raise self.does_not_fit(name, whole.shape, tensor.shape)
        if a is not None and b is not None:
            product = (a.shape[1], b.shape[0]) if change.is_table else (b.shape[0], a.shape[1])
            if len(tensor.shape) != 2 or product != tensor.shape:
                raise self.does_not_fit(name, product, tensor.shape)

        def read() -> np.ndarray:
            weights = read_finite(name, whole)
            if a is None or b is None:
                return weights
            left, right = (read_finite(name, part).astype(np.float32) for part in (b, a))
            product = left @ right
            if change.is_table:
                product = product.T
            merged: np.ndarray = weights.astype(np.float32) + np.float32(change.scale) * product
            return merged

        sources = (self.folder / ADAPTER_WEIGHTS, self.folder / ADAPTER_CONFIG)
        return Tensor(tensor.source, tensor.shape, read, (*tensor.also, *sources))

    def does_not_fit(
        self, name: str, found: tuple[int, ...], expected: tuple[int, ...]
    ) -> StartupError:
        return StartupError(
            f"{self.folder} changes {name[:120]} by {found}, the base model has {expected}; it was "
            f"trained on {self.base or 'another model'}"
        )


def read_adapter_base(folder: Path) -> tuple[str | None, str | None]:
    """The base model of the adapter in `folder`, and its revision. Raises `StartupError`."""
    config = _read_config(folder)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    for key, value in (("base_model_name_or_path", base), ("revision", revision)):
        if value is not None and not isinstance(value, str):
            raise _wrong(folder, key, "a text", value)
    return base or None, revision or None


def is_repository(name: str) -> bool:
    """Whether it can be the name of a repository on the hub."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter in `folder`. Raises `StartupError` if it is damaged or not understood."""
    config = _read_config(folder)
    _check_config(folder, config)
    path = folder / ADAPTER_WEIGHTS
    if not is_there(path):
        pickle = (folder / ADAPTER_WEIGHTS).with_suffix(".bin")
        if pickle.exists():
            raise StartupError(
                f"{pickle} is a PyTorch pickle, which can run code when it is read; save the "
                "adapter with save_pretrained(FOLDER, safe_serialization=True)"
            )
        raise StartupError(f"{folder} holds no {ADAPTER_WEIGHTS}; copy the adapter again, whole")
    base, revision = read_adapter_base(folder)
    changes: dict[str, _Change] = {}
    for name, tensor in read_safetensors(path).items():
        _add(folder, changes, name, tensor)
    if not changes:
        raise StartupError(f"{path} holds no tensors; save the adapter again")
    for name, change in changes.items():
        if (change.a is None) != (change.b is None):
            raise StartupError(
                f"{path} has one half of the adapter of {name[:120]} and not the other; copy the "
                "adapter again, whole"
            )
        if change.a is not None and change.b is not None:
            rank = change.a.shape[0] if len(change.a.shape) == 2 else 0
            if rank < 1 or len(change.b.shape) != 2 or change.b.shape[1] != rank:
                raise StartupError(
                    f"{path}: the adapter of {name[:120]} has the shapes {change.a.shape} and "
                    f"{change.b.shape}, expected (rank, in) and (out, rank)"
                )
            # The rank is that of A, which `r` and `rank_pattern` gave when it was made.
            changes[name] = replace(change, scale=_scale(folder, config, change.module, rank))
    if config.get("ensure_weight_tying") and any("embed_audio" in name for name in changes):
        raise _not_done(folder, "tied embeddings (ensure_weight_tying)")
    _warn_if_untrained(folder, changes)
    return Adapter(folder, base, revision, changes)


def _add(folder: Path, changes: dict[str, _Change], name: str, tensor: Tensor) -> None:
    if tensor.problem is not None:
        raise StartupError(tensor.problem)
    if "lora_magnitude_vector" in name:
        raise _not_done(folder, "DoRA")
    if match := _PART.fullmatch(name):
        module, part = match["module"] or match["table"], match["part"] or match["table_part"]
        plain = plain_name(f"{module}.weight")
        change = changes.get(plain, _Change())
        half: dict[str, Any] = {"a": tensor} if part.endswith("A") else {"b": tensor}
        is_table = match["table"] is not None
        changes[plain] = replace(
            change, is_table=is_table, module=module.removeprefix("base_model.model."), **half
        )
        return
    if re.search(r"lora_|trainable_tokens|token_adapter|oft_|vera_", name):
        raise _not_done(folder, f"tensors like {name[:120]}")
    if ".original_module." in name:
        return
    plain = plain_name(_WHOLE.sub(".", name))
    changes[plain] = replace(changes.get(plain, _Change()), whole=tensor)


def _read_config(folder: Path) -> dict[str, Any]:
    if not is_there(folder / ADAPTER_CONFIG):
        raise StartupError(
            f"{folder} holds no {ADAPTER_CONFIG}, without which {ADAPTER_WEIGHTS} cannot be "
            "merged; copy what save_pretrained wrote, whole"
        )
    return read_json_object(folder / ADAPTER_CONFIG)


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise _not_done(folder, f"peft_type {str(config.get('peft_type'))[:40]!r}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and _CHANGES_THE_BASE.fullmatch(start.lower()):
        raise _not_done(
            folder, f"init_lora_weights {start!r}, which changes the base's weights too"
        )
    for key, value in config.items():
        if key not in _UNDERSTOOD and value:
            raise _not_done(folder, _NAMES.get(key, f"{key[:60]} {str(value)[:60]!r}"))
    if not isinstance(config.get("use_rslora", False), bool):
        raise _wrong(folder, "use_rslora", "true or false", config["use_rslora"])
    for key in ("alpha_pattern", "rank_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise _wrong(folder, key, "an object", config[key])


def _scale(folder: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha, where = config.get("lora_alpha"), "lora_alpha"
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if _matches(folder, pattern, module):
            alpha, where = value, f"alpha_pattern of {pattern[:60]}"
            break
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise _wrong(folder, where, "a number", alpha)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _matches(folder: Path, pattern: str, module: str) -> bool:
    """As peft's `get_pattern_key`: the pattern is the end of a module's name. A pattern from a file
    may not take for ever, so repetitions are few and never of groups."""
    repetitions = len(re.findall(r"[*+{]", pattern))
    if len(pattern) > _MAX_PATTERN_CHARACTERS or repetitions > 2 or re.search(r"\)[*+?{]", pattern):
        raise _wrong(folder, "alpha_pattern", "names of modules or simple patterns", pattern)
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except (re.error, RecursionError):
        raise _wrong(folder, "alpha_pattern", "regular expressions", pattern) from None


def _warn_if_untrained(folder: Path, changes: Mapping[str, _Change]) -> None:
    """B starts as zeros: where all are still, the base speaks as if there were no adapter."""
    if any(change.whole is not None for change in changes.values()):
        return
    if not any(change.b is not None and change.b.read().any() for change in changes.values()):
        log.warning(
            "the adapter in %s was never trained (every B is zero), so the base's voice speaks",
            folder,
        )


def _wrong(folder: Path, key: str, expected: str, value: object) -> StartupError:
    return StartupError(
        f"{folder / ADAPTER_CONFIG}: {key} must be {expected}, got {str(value)[:60]!r}; save the "
        "adapter again"
    )


def _not_done(folder: Path, what: str) -> StartupError:
    return StartupError(
        f"the adapter in {folder} uses {what}, which this engine does not merge; merge it with "
        "peft (merge_and_unload) and give the merged model as --model-path"
    )
