"""Perth's two networks as ONNX graphs of ours, from its published structure and weights.

Each is a stack of convolutions over time: one that changes the levels of a spectrum, and three that
look for that change in a spectrum at its own speed, a slower and a faster one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tts_provider.audio.watermark.spectrum import BINS, Levels
from tts_provider.audio.watermark.weights import Weights
from tts_provider.onnx_threads import single_thread_options

SPEEDS = (1.25, 1.0, 0.75)
"""The decoder's three: how many frames it has for each of the spectrum's."""

_DECODERS = ("decoder.slow_layers", "decoder.normal_layers", "decoder.fast_layers")
_LAYERS = 7
_SLOPE = 0.01  # of LeakyReLU where it is negative


class Encoder:
    """Says how the levels of a spectrum must change. Call it from any thread."""

    def __init__(self, weights: Weights) -> None:
        self._session = _session("encoder", ["encoder.layers"], BINS, weights)

    def change(self, levels: Levels) -> Levels:
        """(BINS, T) → (BINS, T), T > 0."""
        (change,) = self._session.run(None, {"levels_0": levels[np.newaxis]})
        return np.asarray(change[0])


class Decoder:
    """Looks for that change. Call it from any thread."""

    def __init__(self, weights: Weights) -> None:
        self._session = _session("decoder", _DECODERS, 2, weights)

    def look(self, levels: Levels) -> list[npt.NDArray[np.float32]]:
        """(BINS, T), T > 1 → for each of `SPEEDS` (2, int(speed * T)): how much its answer counts
        at each of its frames, and the answer, 0 or 1."""
        frames = levels.shape[1]
        feeds = {
            f"levels_{number}": stretch(levels, int(frames * speed))[np.newaxis]
            for number, speed in enumerate(SPEEDS)
        }
        return [np.asarray(answer[0]) for answer in self._session.run(None, feeds)]


def stretch(levels: Levels, frames: int) -> Levels:
    """(BINS, T) → (BINS, frames), linearly; the first and the last frame stay."""
    places = np.linspace(0, levels.shape[1] - 1, max(frames, 1), dtype=np.float32)
    before = np.minimum(places.astype(np.int64), max(levels.shape[1] - 2, 0))
    part = (places - before).astype(np.float32)
    after = np.minimum(before + 1, levels.shape[1] - 1)
    stretched: Levels = levels[:, before] * (1 - part) + levels[:, after] * part
    return stretched


def _session(name: str, stacks: Any, rows: int, weights: Weights) -> onnxruntime.InferenceSession:
    nodes, constants, inputs, outputs = [], [], [], []
    for number, stack in enumerate(stacks):
        value, frames = f"levels_{number}", f"frames_{number}"
        inputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, BINS, frames]))
        for layer in range(_LAYERS):
            kernel, bias = f"{stack}.{layer}.conv.weight", f"{stack}.{layer}.conv.bias"
            constants += [
                onnx.numpy_helper.from_array(weights[kernel], kernel),
                onnx.numpy_helper.from_array(weights[bias], bias),
            ]
            padding = weights[kernel].shape[2] // 2
            nodes.append(
                helper.make_node(
                    "Conv", [value, kernel, bias], [f"{stack}.{layer}"], pads=[padding, padding]
                )
            )
            value = f"{stack}.{layer}"
            if layer < _LAYERS - 1:
                nodes.append(
                    helper.make_node("LeakyRelu", [value], [f"{value}.bent"], alpha=_SLOPE)
                )
                value += ".bent"
        outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, rows, frames]))
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = single_thread_options()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
