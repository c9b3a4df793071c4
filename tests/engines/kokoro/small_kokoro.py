"""A graph of Kokoro's structure with few random weights: what it says is no language, but it is
cut, streamed and timed as the model of 82 million parameters is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tts_provider.engines.kokoro.voices import PACK_BYTES

VOICES = ("af_heart", "af_sky", "am_michael", "bf_emma", "ef_dora", "ff_siwis", "hf_alpha")

_WIDTH = 8
_RANDOM = np.random.default_rng(82)


class _Builder:
    def __init__(self) -> None:
        self.nodes, self.constants = [], []

    def __call__(self, operator: str, *inputs, **attributes) -> str:
        name = f"{operator}_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _weights(*shape: int, scale: float = 1.0) -> np.ndarray:
    fan_in = int(np.prod(shape[1:])) or 1
    return (scale * _RANDOM.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def small_graph(*, tokens: str = "tokens", audio: str = "audio") -> ModelProto:
    """Names of its inputs and outputs differ between exports."""
    op = _Builder()
    f32 = np.float32
    # Phonemes → how long they last; 3 frames or so.
    style = op("Slice", "style", _ints(0), _ints(_WIDTH), _ints(1))
    embedded = op("Gather", _weights(178, _WIDTH, scale=3.0), tokens)  # (1, L, C)
    x = op("Add", embedded, op("Unsqueeze", style, _ints(1)))
    longer = op("Sigmoid", op("Squeeze", op("MatMul", x, _weights(_WIDTH, 1)), _ints(2)))
    frames = op("Div", op("Mul", longer, f32([5.0])), "speed")
    durations = op("Clip", op("Round", frames), f32(1.0))
    ends = op("CumSum", durations, np.array(1, np.int64))
    starts = op("Sub", ends, durations)
    count = op("Squeeze", op("ReduceSum", durations, _ints(1), keepdims=0), _ints(0))
    clock = op("Cast", op("Range", f32(0), count, f32(1)), to=TensorProto.FLOAT)  # (F,)
    begun = op("GreaterOrEqual", clock, op("Unsqueeze", starts, _ints(2)))
    over = op("Less", clock, op("Unsqueeze", ends, _ints(2)))
    alignment = op("Cast", op("And", begun, over), to=TensorProto.FLOAT)  # (1, L, F)
    across = op("Transpose", x, perm=[0, 2, 1])
    aligned = op("MatMul", across, alignment)  # (1, C, F)

    def curve(middle: float, reach: float) -> str:
        shaped = op("MatMul", op("Tanh", across), alignment)
        twice = op("Resize", shaped, "", f32([1, 1, 2]), mode="nearest")
        row = op("Conv", twice, _weights(1, _WIDTH, 3), pads=[1, 1])
        moved = op("Add", op("Mul", row, f32([reach])), f32([middle]))
        return op("Reshape", moved, _ints(1, -1))  # (1, 2 F)

    pitch, energy = curve(150.0, 20.0), curve(0.0, 1.0)
    # The harmonics: a sine of the pitch, analyzed.
    hz = op("Resize", op("Unsqueeze", pitch, _ints(1)), "", f32([1, 1, 300]), mode="nearest")
    turns = op("CumSum", op("Mul", hz, f32([2 * np.pi / 24_000])), np.array(2, np.int64))
    wave = op("Pad", op("Sin", turns), _ints(0, 0, 10, 0, 0, 10))
    signal = op("Transpose", wave, perm=[0, 2, 1])  # (1, samples, 1)
    window = np.hanning(21)[:20].astype(f32)
    spectrum = op("STFT", signal, np.array(5, np.int64), window, np.array(20, np.int64))
    real, imaginary = (op("Gather", spectrum, np.array(part), axis=3) for part in (0, 1))
    power = op("Add", op("Mul", real, real), op("Mul", imaginary, imaginary))
    magnitude = op("Transpose", op("Sqrt", power), perm=[0, 2, 1])
    turn = op("Atan", op("Div", imaginary, op("Add", op("Abs", real), f32([1e-3]))))
    harmonics = op("Concat", magnitude, op("Transpose", turn, perm=[0, 2, 1]), axis=1)
    # The decoder.
    axis = op.constant(_ints(2))

    def narrow(row: str) -> str:
        expanded = op("Unsqueeze", row, _ints(1))
        return op("Conv", expanded, _weights(1, 1, 3), pads=[1, 1], strides=[2])

    def norm(value: str) -> str:
        mean = op("ReduceMean", value, axis, keepdims=1)
        centered = op("Sub", value, mean)
        variance = op("ReduceMean", op("Mul", centered, centered), axis, keepdims=1)
        scaled = op("Div", centered, op("Sqrt", op("Add", variance, f32([1e-5]))))
        return op("Mul", scaled, op("Unsqueeze", op("Add", style, f32([1.0])), _ints(2)))

    joined = op("Concat", aligned, narrow(pitch), narrow(energy), axis=1)
    h = op("Conv", joined, _weights(_WIDTH, _WIDTH + 2, 3), pads=[1, 1])
    source = op("Conv", harmonics, _weights(_WIDTH, 22, 121), strides=[120])
    for _ in range(3):
        h = op("LeakyRelu", norm(op("Add", h, source)), alpha=0.1)
        h = op("Conv", h, _weights(_WIDTH, _WIDTH, 3), pads=[1, 1])
    loud = op("Tanh", op("Conv", h, _weights(600, _WIDTH, 1, scale=0.3)))
    flat = op("Reshape", op("Transpose", loud, perm=[0, 2, 1]), _ints(-1))
    op.nodes.append(helper.make_node("Identity", [flat], [audio]))
    inputs = [
        helper.make_tensor_value_info(tokens, TensorProto.INT64, [1, "L"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info(audio, TensorProto.FLOAT, ["samples"])]
    graph = helper.make_graph(op.nodes, "small", inputs, outputs, op.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


SMALL = small_graph().SerializeToString()


def write_folder(folder: Path, voices=VOICES, graph: bytes = SMALL) -> Path:
    """What `--kokoro-path` takes."""
    (folder / "voices").mkdir(parents=True)
    (folder / "model_quantized.onnx").write_bytes(graph)
    for number, name in enumerate(voices):
        draw = np.random.default_rng(number).standard_normal(PACK_BYTES // 4) / 3
        (folder / "voices" / f"{name}.bin").write_bytes(draw.astype("<f4").tobytes())
    return folder
