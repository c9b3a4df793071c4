"""The language model on ONNX Runtime: sessions over KV buffers that are updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.config import CsmConfig, TransformerConfig
from tts_provider.engines.csm.cpu.kv import KeyValues
from tts_provider.engines.csm.cpu.language import Frame, Language
from tts_provider.engines.csm.cpu.stepwise import Stepwise
from tts_provider.engines.csm.onnx.language import build_backbone, build_depth, build_head, kv_names
from tts_provider.engines.memory import use_huge_pages

Weights = Mapping[str, np.ndarray]


class OnnxLanguage(Language):
    """Runs on any processor and in any precision."""

    is_compact = True
    no_adapters = (
        "its model runs on ONNX Runtime, where voices cannot have adapters; run it in int8 or int4 "
        "on Linux and x86-64, or on CUDA, or start a server for the adapter alone, with --adapter"
    )

    def __init__(self, config: CsmConfig, weights: Weights, *, slots: int, threads: int) -> None:
        depth_positions = config.codebooks + 1
        self._depth = _Transformer(
            build_depth(config, weights, depth_positions).session(threads),
            config.depth,
            slots,
            depth_positions,
            {"hidden": config.depth.width},
        )
        use_huge_pages()  # the rest is read once a frame: not worth seconds of the start
        self._backbone = _Transformer(
            build_backbone(config, weights, config.positions).session(threads),
            config.backbone,
            slots,
            config.positions,
            {"logits": config.audio_vocabulary, "projected": config.depth.width},
        )
        self._heads = [
            build_head(config, weights, book).session(threads)
            for book in range(1, config.codebooks)
        ]
        self.kv = self._backbone.kv
        self._stepwise = Stepwise(self, config, weights)

    def load_adapter(self, adapter: LowRank) -> Any:
        raise NotImplementedError(self.no_adapters)

    def read(
        self, x: np.ndarray, first_row: int, lengths: np.ndarray, adapters: Sequence[Any] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._backbone.run(x, first_row, lengths)
        return outputs["logits"], outputs["projected"]

    def speak(self, x: np.ndarray, codebook: int, adapters: Sequence[Any] = ()) -> np.ndarray:
        length = 0 if codebook == 1 else codebook
        hidden = self._depth.run(x, 0, np.full(len(x), length, np.int32))["hidden"]
        logits: np.ndarray = self._heads[codebook - 1].run(None, {"hidden": hidden})[0]
        logits[~np.isfinite(hidden).all(axis=1)] = np.nan  # which a quantized head may lose
        return logits

    def frame(self, frame: Frame) -> np.ndarray:
        return self._stepwise.frame(frame)

    def forget(self, row: int) -> None:
        self._backbone.key_values.forget(row)

    def close(self) -> None:
        """Its threads are the process's."""


class _Transformer:
    """A session and its KV buffers, run over the first rows of them or over one row."""

    def __init__(
        self,
        session: ort.InferenceSession,
        config: TransformerConfig,
        slots: int,
        positions: int,
        outputs: Mapping[str, int],
    ) -> None:
        self._session = session
        self._width = config.width
        self._outputs = outputs
        shape = (slots, config.kv_heads, positions, config.head_size)
        self._names = kv_names(config.layers)
        self.key_values = KeyValues(shape, np.float32, len(self._names))
        self.kv = self.key_values.buffers
        self._bound: dict[tuple[int, int, int], _Run] = {}

    def run(self, x: np.ndarray, first_row: int, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """x [B, S, W] read by rows first_row … first_row + B, which hold `lengths` positions each.

        Returns the outputs, [B, …]; they are overwritten by the next run of the same shape.
        """
        rows, sequence, _ = x.shape
        run = self._bind(rows, sequence, first_row)
        run.x[:] = x
        run.last[:] = lengths + (sequence - 1)
        run.total[...] = lengths.max() + sequence
        self._session.run_with_iobinding(run.binding)
        return run.outputs

    def _bind(self, rows: int, sequence: int, first_row: int) -> _Run:
        key = (rows, sequence, first_row)
        if key not in self._bound:
            if sequence > 2:  # prompts come in many lengths: only steps are worth keeping
                return self._new_run(*key)
            self._bound[key] = self._new_run(*key)
        return self._bound[key]

    def _new_run(self, rows: int, sequence: int, first_row: int) -> _Run:
        run = _Run(
            self._session.io_binding(),
            np.empty((rows, sequence, self._width), np.float32),
            np.empty(rows, np.int32),
            np.empty((), np.int32),
            {name: np.empty((rows, width), np.float32) for name, width in self._outputs.items()},
        )
        for name, array in (
            ("x", run.x),
            ("last_position", run.last),
            ("total_positions", run.total),
        ):
            _bind(run.binding.bind_input, name, array)
        for name, array in run.outputs.items():
            _bind(run.binding.bind_output, name, array)
        for (past, present), buffer in zip(self._names, self.kv, strict=True):
            view = buffer[first_row : first_row + rows]
            _bind(run.binding.bind_input, past, view)
            _bind(run.binding.bind_output, present, view)
        return run


@dataclass(frozen=True)
class _Run:
    binding: ort.IOBinding
    x: np.ndarray
    last: np.ndarray
    total: np.ndarray
    outputs: dict[str, np.ndarray]


def _bind(bind: object, name: str, array: np.ndarray) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)  # type: ignore[operator]
