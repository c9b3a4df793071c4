"""hibari's network on ONNX Runtime: phonemes in, one spectrum for each 12.5 ms out.

The graph in the package takes phonemes and a rate. It is edited as it is loaded: the pitch that it
predicts is multiplied by a factor before the decoder sees it, and how long each phoneme lasts is
told. With the factor 1 it computes the same bits as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from tts_provider.engines.inference import Inference
from tts_provider.errors import StartupError
from tts_provider.onnx_threads import single_thread_options

FRAMES_A_DURATION = 2
"""A phoneme lasts a whole number of pairs of frames."""

Floats = npt.NDArray[np.float32]

_PITCH = "pitch"
_SPECTRA = ("lh", "theta", "ln", "lr", "phi")
_F0 = "f0"
_DURATIONS = "durations"


@dataclass(frozen=True)
class Spectra:
    """What the decoder of `hibari_sound` needs of F frames; all of them (bins, F) but the last."""

    harmonic: Floats
    """Log magnitude of what vibrates."""
    turn: Floats
    """Its phase, before the tanh."""
    noise: Floats
    """Log magnitude of what hisses."""
    free: Floats
    """Log magnitude of the rest,"""
    phase: Floats
    """and its phase."""
    f0: Floats  # (F,) in Hz; low where nothing vibrates
    durations: npt.NDArray[np.int64]  # (L,) pairs of frames for each phoneme


class Graph:
    """The network. It runs on the calling thread; any number of threads may call it at once."""

    def __init__(self, model: bytes) -> None:
        """Raises `StartupError` if `model` is not hibari's graph."""
        self._session = open_session(edit(model))

    def compute(
        self, ids: Sequence[int], rate: float, pitch: float, inference: Inference
    ) -> Spectra:
        """Phonemes (L,), 0 at both ends, at `rate` times the normal tempo and `pitch` times the
        predicted one. Raises `InferenceEnded`."""
        feeds = {
            "ids": np.asarray([ids], np.int64),
            "speed": np.asarray([rate], np.float32),
            _PITCH: np.asarray([pitch], np.float32),
        }
        names = (*_SPECTRA, _F0, _DURATIONS)
        harmonic, turn, noise, free, phase, f0, durations = (
            output.reshape(output.shape[-2:]) if output.ndim == 3 else output.ravel()
            for output in inference.compute(self._session, names, feeds)
        )
        return Spectra(harmonic, turn, noise, free, phase, f0, durations.astype(np.int64))


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    # One thread each: concurrent utterances use the cores.
    options = single_thread_options()
    # Each text length is a separate shape, and an arena would keep a block for each.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def edit(model: bytes) -> bytes:
    """The graph with the input `pitch`, (1,), and the output `durations`, (1, L). Raises
    `StartupError` where it is another graph."""
    import onnx  # 11 MB, which who only reads English with this package does without
    from onnx import TensorProto, helper

    try:
        proto = onnx.load_model_from_string(model)
        graph = proto.graph
        (predicted,) = (at for at, node in enumerate(graph.node) if _F0 in node.output)
        (clip,) = (node for node in graph.node if node.op_type == "Clip")
    except Exception as error:  # noqa: BLE001 - protobuf raises errors of its own
        raise StartupError(f"hibari's graph is not the one this version knows: {error}") from None
    graph.node[predicted].output[0] = "f0_predicted"
    graph.node.insert(predicted + 1, helper.make_node("Mul", ["f0_predicted", _PITCH], [_F0]))
    graph.input.append(helper.make_tensor_value_info(_PITCH, TensorProto.FLOAT, [1]))
    graph.node.append(helper.make_node("Identity", [clip.output[0]], [_DURATIONS]))
    graph.output.append(helper.make_tensor_value_info(_DURATIONS, TensorProto.FLOAT, None))
    edited: bytes = proto.SerializeToString()
    return edited
