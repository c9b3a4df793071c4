"""A small builder for ONNX graphs, so that the model files read like the model.

    g = Graph("mlp")
    x = g.input("x", np.float32, ["rows", width])
    g.output(g.op("MatMul", x, g.constant("w", weights)), "y", np.float32, ["rows", width])
    session = g.session(threads=2)

Values are names (`str`). Weights go to ONNX Runtime beside the model, which holds only their names
and stays small; a session has copies of its own, so nothing need keep the arrays.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from tts_provider.onnx_threads import resting_options, shared_options

OPSET = 21
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators

# Smaller than this, a constant travels in the model itself.
_INLINE_BYTES = 4096

_TYPES: dict[Any, int] = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.bool_): TensorProto.BOOL,
}

Shape = Sequence[int | str]


class Graph:
    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._external: dict[str, np.ndarray] = {}
        self._folder: Path | None = None  # of the files that constants are read from
        self._file_bytes = 0
        self._count = 0

    def input(self, name: str, dtype: Any, shape: Shape) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: Shape) -> str:
        """Publish `value` under `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def rename_output(self, value: str, name: str, dtype: Any, shape: Shape) -> str:
        """Publish `value` under `name` without an operator in between, for buffers in place."""
        for node in self._nodes:
            for position, output in enumerate(node.output):
                if output == value:
                    node.output[position] = name
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def constant(self, name: str, array: Any) -> str:
        """An initializer; `name` must be new in this graph.

        A whole `np.memmap` ONNX Runtime reads from the file itself, a tensor at a time, where it
        would copy all that is given to it in memory; such files must lie in one folder.
        """
        file = array if isinstance(array, np.memmap) and _is_whole(array) else None
        array = np.asarray(array, order="C")
        if array.nbytes <= _INLINE_BYTES:
            self._initializers.append(onnx.numpy_helper.from_array(array, name))
            return name
        tensor = TensorProto(name=name, data_type=_TYPES[array.dtype], dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        if file is None:
            tensor.external_data.add(key="location", value=name)
            self._external[name] = array
        else:
            assert file.filename is not None
            path = Path(file.filename)
            assert self._folder in (None, path.parent)
            self._folder = path.parent
            for key, value in (("location", path.name), ("offset", file.offset)):
                tensor.external_data.add(key=key, value=str(value))
            tensor.external_data.add(key="length", value=str(array.nbytes))
            self._file_bytes += array.nbytes
        self._initializers.append(tensor)
        return name

    def value(self, array: Any) -> str:
        """A small unnamed constant."""
        self._count += 1
        return self.constant(f"value_{self._count}", np.asarray(array))

    def ints(self, *values: int) -> str:
        """A small constant vector of int64, as shapes, axes and starts want it."""
        return self.value(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One operator with one output; "" leaves an optional input out."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One operator with several outputs."""
        self._count += 1
        names = [f"{kind}_{self._count}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    @property
    def constant_bytes(self) -> int:
        """All constants, those in the model and those beside it."""
        inline = sum(len(t.raw_data) for t in self._initializers if not t.external_data)
        given = sum(array.nbytes for array in self._external.values())
        return inline + given + self._file_bytes

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def session(self, threads: int, *, rests: bool = False) -> ort.InferenceSession:
        """An ONNX Runtime session on the CPU.

        Sessions share one thread pool, of the `threads` the first one asks for: pools of their own
        would spin against each other (31 heads took 119 ms instead of 5). One that `rests` has its
        own and leaves the cores to others between its runs, unless there is the shared one.
        """
        options = resting_options(threads) if rests else shared_options(threads)
        if self._folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._folder)
            )
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _TYPES[array.dtype])
            for name, array in self._external.items()
        }
        if values:
            options.add_external_initializers(list(values), list(values.values()))
        return ort.InferenceSession(
            self.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def _is_whole(array: np.memmap[Any, Any]) -> bool:
    """A view has its parent's `offset`, and may have another order."""
    return isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
