"""An adapter as two thin matrices beside each layer, which is how a voice carries one.

Only the language model's own layers can have them: the seven matrices of every layer of both
transformers. What else an adapter changes (the codec, tables, heads, whole layers) is the same for
all voices of a server, and is refused by name. Where such a change is none, because its B is still
zero, it is left out: training does not reach the codec, but peft saves its halves all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.files.adapter import Adapter, read_adapter
from tts_provider.engines.csm.files.checkpoint import CODEC, expected_shapes
from tts_provider.errors import StartupError

Matrix = Literal["q", "k", "v", "o", "gate", "up", "down"]
MATRICES: tuple[Matrix, ...] = ("q", "k", "v", "o", "gate", "up", "down")
BACKBONE, DEPTH = "backbone_model", "depth_decoder.model"
MOST_RANK = 256
"""As peft users choose at most; adapter.h has room for no more."""

_LAYER = re.compile(
    rf"(?P<transformer>{re.escape(BACKBONE)}|{re.escape(DEPTH)})\.layers\.(?P<layer>\d+)\."
    r"(?:self_attn\.(?P<attention>[qkvo])|mlp\.(?P<mlp>gate|up|down))_proj\.weight"
)


@dataclass(frozen=True)
class Factors:
    """What is added to a matrix: B·A, with the adapter's scale in B."""

    a: np.ndarray  # [rank, inputs] float32
    b: np.ndarray  # [outputs, rank] float32


@dataclass(frozen=True)
class LowRank:
    """An adapter that a voice can have."""

    factors: Mapping[tuple[str, int, Matrix], Factors]
    """By transformer (`BACKBONE` or `DEPTH`), layer and matrix, for those that it changes."""

    def layer(self, transformer: str, number: int) -> dict[Matrix, Factors]:
        found = ((matrix, self.factors.get((transformer, number, matrix))) for matrix in MATRICES)
        return {matrix: factors for matrix, factors in found if factors is not None}


def read_low_rank(folder: Path, config: CsmConfig) -> LowRank:
    """The adapter in `folder` for voices of the model that `config` describes.

    Raises `StartupError` where it is damaged, is of another model, or changes what no voice can
    carry: one sentence.
    """
    adapter = read_adapter(folder)
    shapes, factors = expected_shapes(config), {}
    for name in sorted(adapter.changes):
        product = adapter.product(name)
        match = _LAYER.fullmatch(name)
        if match is None or product is None:
            if product is not None and not product[1].any():
                continue
            raise _not_a_voices(adapter, name)
        a, b = product
        rank, shape = len(a), (len(b), a.shape[1])
        if name not in shapes:
            raise StartupError(
                f"{folder} changes {name[:120]}, which the base model does not have; is it the "
                "adapter of another model?"
            )
        if shapes[name] != shape:
            raise adapter.does_not_fit(name, shape, shapes[name])
        if rank > MOST_RANK:
            raise StartupError(
                f"{folder} changes {name[:120]} with rank {rank}; a voice's adapter has at most "
                f"{MOST_RANK}; start a server for it alone, with --adapter"
            )
        matrix: Matrix = match["attention"] or match["mlp"]  # type: ignore[assignment]
        factors[match["transformer"], int(match["layer"]), matrix] = Factors(a, b)
    if not factors:
        raise StartupError(f"{folder} changes nothing that a voice speaks with; save it again")
    return LowRank(factors)


def _not_a_voices(adapter: Adapter, name: str) -> StartupError:
    what = "replaces" if adapter.changes[name].whole is not None else "changes"
    of = "the codec's " if name.startswith(CODEC) else ""
    return StartupError(
        f"{adapter.folder} {what} {of}{name.removeprefix(CODEC)[:120]}, which all voices of a "
        f"server share; start a server for it alone: --adapter {adapter.folder}"
    )
