"""The kernels in another process, called as if they were a library in this one: under QEMU or
with sanitizers. What the structures of a call point to travels there and back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tts_provider.engines.csm.native import library
from tts_provider.engines.csm.native.library import LayerAdapter, Linear, Output

DRIVER = Path(__file__).with_name("driver.c")
DESCRIBE, STEP, FRAME, DRAW = range(4)
SENT, CHANGED, ROOM = range(3)
ANSWER_BYTES = 64 * 4


def compile_driver(program: Path, *flags: str, compiler: Sequence[str] = ()) -> Path:
    """With zig, where no other compiler is named. Raises `CalledProcessError` with what it says."""
    zig = (sys.executable, "-m", "ziglang", "cc")
    sources = [*sorted(library.FOLDER.glob("*.c")), DRIVER]
    subprocess.run(
        [
            *(compiler or zig),
            *("-O2", "-g", "-std=c11", "-fno-math-errno", "-pthread", *flags),
            *(f"-I{library.FOLDER}", *map(str, sources), "-o", str(program)),
        ],
        check=True,
        capture_output=True,
    )
    return program


class Buffers:
    """What a call's argument points to, directly and further on."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[int, int]] = {}
        self._structures: list[tuple[int, int]] = []

    def add(self, address: int | None, size: int, kind: int = SENT) -> None:
        if address:
            self.found[address] = size, kind

    def add_structure(self, structure: Any) -> None:
        address, size = ctypes.addressof(structure), ctypes.sizeof(structure)
        self.add(address, size)
        self._structures.append((address, size))

    def pointers(self) -> list[tuple[int, int, int, int]]:
        """In which buffer, where, to which, and where in it: all words of the structures that are
        addresses of buffers."""
        order = list(self.found)
        pointers = []
        for start, size in self._structures:
            for at in range(0, size - 7, 8):
                value = ctypes.c_uint64.from_address(start + at).value
                if value in self.found:
                    pointers.append((order.index(start), at, order.index(value), 0))
        return pointers


class DriverCalls:
    """`ours` is a library of this machine's: for what only counts and packs."""

    def __init__(self, command: Sequence[str], ours: ctypes.CDLL) -> None:
        self._ours = ours
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._threads: list[int] = []
        self.slots: dict[int, int] = {}
        """Of each transformer, by its address: no structure says how many rows its cache has."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)

    def close(self) -> int:
        """The process's exit code."""
        with self._process:
            self._process.communicate(timeout=120)
        return self._process.returncode

    def thread_pool_start(self, threads: int) -> int:
        self._threads.append(threads)
        return len(self._threads)

    def thread_pool_stop(self, pool: int) -> None:
        pass

    def check_sizes(self) -> None:
        """Its structures must be laid out as this process has them."""
        answer = (ctypes.c_int32 * 64).from_buffer_copy(self._ask(DESCRIBE, 1, Buffers()))
        assert answer[: len(library._SIZES)] == library._SIZES

    def workspace_bytes(self, transformer: library.Transformer, slots: int, threads: int) -> int:
        self.slots[ctypes.addressof(transformer)] = slots
        size: int = self._ours.workspace_bytes(transformer, slots, threads)
        return size

    def transformer_run(self, pool: int, step: library.Step) -> None:
        buffers = Buffers()
        buffers.add_structure(step)
        t = step.transformer.contents
        self._add_transformer(buffers, t)
        self._add_adapters(buffers, step.adapters, step.batch, t.layers)
        buffers.add(step.x, step.batch * step.sequence * t.width * 4)
        buffers.add(step.rows, step.batch * 4)
        buffers.add(step.lengths, step.batch * 4)
        outputs = ctypes.cast(step.output, ctypes.POINTER(Output * step.outputs)).contents
        buffers.add_structure(outputs)
        for output in outputs:
            self._add_linear(buffers, output.layer)
            width = -(-output.layer.outputs // 16) * 16
            buffers.add(output.out, step.batch * width * 4, CHANGED)
        threads = self._threads[pool - 1]
        buffers.add(step.workspace, self._ours.workspace_bytes(t, step.batch, threads), ROOM)
        self._ask(STEP, threads, buffers)

    def frame_run(self, pool: int, frame: library.Frame) -> None:
        buffers = Buffers()
        buffers.add_structure(frame)
        model = frame.model.contents
        buffers.add_structure(model)
        backbone, depth = model.backbone.contents, model.depth.contents
        self._add_transformer(buffers, backbone)
        self._add_transformer(buffers, depth)
        self._add_adapters(buffers, frame.backbone_adapters, frame.reading, backbone.layers)
        self._add_adapters(buffers, frame.depth_adapters, frame.batch, depth.layers)
        self._add_linear(buffers, model.projection)
        heads = ctypes.cast(model.heads, ctypes.POINTER(Linear * model.codebooks)).contents
        buffers.add_structure(heads)
        for head in heads:
            self._add_linear(buffers, head)
        rows, width = model.codebooks * model.vocabulary, -(-model.vocabulary // 16) * 16
        buffers.add(model.audio_table, rows * backbone.width * 2)
        buffers.add(model.depth_table, rows * depth.width * 2)
        buffers.add(frame.rows, frame.batch * 4)
        buffers.add(frame.lengths, frame.batch * 4)
        buffers.add(frame.read, frame.reading * model.codebooks * 4)
        samplings = ctypes.cast(
            frame.sampling, ctypes.POINTER(library.Sampling * frame.batch)
        ).contents
        buffers.add(ctypes.addressof(samplings), ctypes.sizeof(samplings))
        buffers.add(frame.logits, frame.batch * width * 4, CHANGED)
        buffers.add(frame.projected, frame.batch * depth.width * 4, CHANGED)
        buffers.add(frame.codes, frame.batch * model.codebooks * 4, CHANGED)
        threads = self._threads[pool - 1]
        buffers.add(frame.workspace, self._ours.frame_bytes(model, frame.batch, threads), ROOM)
        self._ask(FRAME, threads, buffers)

    def draw_code(self, sampling: Any, book: int, logits: Any, count: int, keys: Any) -> int:
        buffers = Buffers()
        structure = sampling._obj
        buffers.add(ctypes.addressof(structure), ctypes.sizeof(structure))
        buffers.add(logits.value, count * 4)
        buffers.add(keys.value, -(-count // 16) * 16 * 4)
        answer = self._ask(DRAW, 1, buffers, book, count)
        return ctypes.c_int32.from_buffer_copy(answer).value

    def _add_linear(self, buffers: Buffers, linear: Linear) -> None:
        if linear.tiles:
            buffers.add(linear.tiles, self._ours.tiles_bytes(linear))

    def _add_transformer(self, buffers: Buffers, t: library.Transformer) -> None:
        buffers.add_structure(t)
        layers = ctypes.cast(t.layer, ctypes.POINTER(library.Layer * t.layers)).contents
        buffers.add_structure(layers)
        slots = self.slots[ctypes.addressof(t)]
        for layer in layers:
            for name in ("query_key", "value", "output", "gate", "up", "down"):
                self._add_linear(buffers, getattr(layer, name))
            buffers.add(layer.attention_norm, t.width * 4)
            buffers.add(layer.mlp_norm, t.width * 4)
            size = slots * t.kv_heads * t.positions * t.head_size * 2
            buffers.add(layer.keys, size, CHANGED)
            buffers.add(layer.values, size, CHANGED)
        buffers.add(t.norm, t.width * 4)
        buffers.add(t.cos, t.positions * t.head_size // 2 * 4)
        buffers.add(t.sin, t.positions * t.head_size // 2 * 4)

    def _add_adapters(self, buffers: Buffers, adapters: Any, rows: int, layers: int) -> None:
        if not adapters:
            return
        pointers = ctypes.cast(adapters, ctypes.POINTER(ctypes.c_void_p * rows)).contents
        buffers.add_structure(pointers)
        for address in filter(None, pointers):
            for_layers = (LayerAdapter * layers).from_address(address)
            buffers.add_structure(for_layers)
            for layer in for_layers:
                for name, _ in LayerAdapter._fields_:
                    low_rank = getattr(layer, name)
                    self._add_linear(buffers, low_rank.down)
                    self._add_linear(buffers, low_rank.up)

    def _ask(self, function: int, threads: int, buffers: Buffers, *extra: int) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        pointers = buffers.pointers()
        header = [function, threads, len(buffers.found), len(pointers), *(*extra, 0, 0)[:2]]
        stdin.write((ctypes.c_int32 * 6)(*header))
        for size, kind in buffers.found.values():
            stdin.write((ctypes.c_int64 * 2)(size, kind))
        for address, (size, kind) in buffers.found.items():
            if kind != ROOM:
                stdin.write((ctypes.c_char * size).from_address(address))
        for pointer in pointers:
            stdin.write((ctypes.c_int64 * 4)(*pointer))
        stdin.flush()
        answer = stdout.read(ANSWER_BYTES)
        assert len(answer) == ANSWER_BYTES, f"the driver ended with {self._process.wait()}"
        for address, (size, kind) in buffers.found.items():
            if kind == CHANGED:
                ctypes.memmove(address, stdout.read(size), size)
        return answer
