"""Runs a network on ONNX Runtime for an utterance that may be cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime


class InferenceEnded(Exception):
    """The inference was asked to end."""


class Inference:
    """One utterance's use of a network, on the calling thread. Any other thread may end it."""

    def __init__(self, *, shrinks_arena: bool = False) -> None:
        """With `shrinks_arena` the session's arena gives back behind each run what it does not
        need."""
        self._options = onnxruntime.RunOptions()
        if shrinks_arena:
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._is_ended = False

    def end(self) -> None:
        """Takes effect within one operator, which takes milliseconds at most."""
        self._is_ended = True
        self._options.terminate = True

    def check(self) -> None:
        """Raises `InferenceEnded` if it was asked to end."""
        if self._is_ended:
            raise InferenceEnded

    def compute(self, session: Any, outputs: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        """Raises `InferenceEnded`."""
        self.check()
        try:
            made: list[Any] = session.run(list(outputs), inputs, self._options)
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            self.check()
            raise
        return made
