"""ggml (llama.cpp's kernels) on a CPU: the matrix products of CSM-1B's frames, against ours.

    python benchmarks/csm_ggml.py [--streams N] [--threads N] [--rounds N]     two minutes, 3 GB

Random weights of the real size. ggml computes the products of a frame and nothing
else: no attention, norms, gates or sampling, all of which ours has. Its weights are of the types
that llama.cpp's Q4_K_M gives such layers, as ours follow it, Q4_K repacked where ggml does so; what
reads the same input is one product. Both take turns in one run, and medians count: of the clock,
and with one thread of CPU time, which what else the machine does changes little.

It needs ggml's shared libraries: those of `pip install llama-cpp-python`, or a folder that
GGML_LIBRARIES names.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm.config import CSM_1B, CsmConfig, TransformerConfig
from tts_provider.engines.csm.cpu.policy import is_sensitive

F32, Q4_K, Q6_K = 0, 12, 14
"""ggml_type; whose files keep these numbers."""
_ROWS = 64  # that are rounded; the others of a matrix are copies
_NODES = 2048
_LIBRARY_NAMES = {"linux": "lib{}.so", "darwin": "lib{}.dylib", "win32": "{}.dll"}


class Missing(Exception):
    """Where there is no ggml, a sentence."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_init": (c_void_p, (_InitParams,)),
    "ggml_tensor_overhead": (c_size_t, ()),
    "ggml_graph_overhead_custom": (c_size_t, (c_size_t, c_bool)),
    "ggml_row_size": (c_size_t, (c_int, c_int64)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_new_graph_custom": (c_void_p, (c_void_p, c_size_t, c_bool)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_quantize_chunk": (
        c_size_t,
        (c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p),
    ),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_reg_dev_get": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_get_default_buffer_type": (c_void_p, (c_void_p,)),
    "ggml_backend_buft_name": (c_char_p, (c_void_p,)),
    "ggml_backend_cpu_init": (c_void_p, ()),
    "ggml_backend_cpu_reg": (c_void_p, ()),
    "ggml_backend_cpu_set_n_threads": (None, (c_void_p, c_int)),
    "ggml_cpu_has_avx2": (c_int, ()),
    "ggml_log_set": (None, (c_void_p, c_void_p)),
}
_LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class Library:
    """ggml's functions, by name."""

    def __init__(self) -> None:
        """Raises `Missing`."""
        folder = _find_folder()
        name = _LIBRARY_NAMES.get(sys.platform, "lib{}.so")
        try:
            loaded = [
                ctypes.CDLL(str(folder / name.format(part)), mode=ctypes.RTLD_GLOBAL)
                for part in ("ggml-base", "ggml-cpu")
            ]
            for function, (result, arguments) in _FUNCTIONS.items():
                found = next(each for each in loaded if hasattr(each, function))
                entry = getattr(found, function)
                entry.restype, entry.argtypes = result, arguments
                setattr(self, function, entry)
        except (OSError, StopIteration) as error:
            raise Missing(f"the ggml in {folder} cannot be used: {error}") from None
        self._silence = _LOG(lambda level, text, data: None)  # a line for each matrix
        self.ggml_log_set(self._silence, None)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def repacking(self) -> c_void_p | None:
        """The kind of memory in which ggml lays Q4_K out for the processor's vectors; None where it
        has none for this one."""
        if not self.ggml_cpu_has_avx2():
            return None
        registered = self.ggml_backend_cpu_reg()
        device = self.ggml_backend_reg_dev_get(registered, 0)
        address = self.ggml_backend_reg_get_proc_address(
            registered, b"ggml_backend_dev_get_extra_bufts"
        )
        if not address:
            return None
        get = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(address)
        kinds = get(device)
        for number in range(16):
            if not kinds or not kinds[number]:
                return None
            if self.ggml_backend_buft_name(kinds[number]) == b"CPU_REPACK":
                return c_void_p(kinds[number])
        return None


def _find_folder() -> Path:
    if named := os.environ.get("GGML_LIBRARIES"):
        return Path(named)
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise Missing(
            "ggml is not installed: pip install llama-cpp-python, which compiles it, or name the "
            "folder of its libraries in GGML_LIBRARIES"
        )
    return Path(found.origin).parent / "lib"


@dataclass(frozen=True)
class Product:
    """Weights [outputs, inputs], that a frame reads for `rows` rows at a time."""

    weights: str
    inputs: int
    outputs: int
    kind: int
    rows: int = 1


def products(config: CsmConfig, streams: int = 1, choices: int = 2048) -> list[Product]:
    """Those of a frame, in order: the backbone reads the one before, then the depth decoder says 31
    codes, the first of them from two positions at once."""
    backbone = _layers("backbone", config.backbone, streams)
    first = [
        Product("head 0", config.backbone.width, choices, Q6_K, streams),
        Product("projection", config.backbone.width, config.depth.width, Q6_K, streams),
    ]
    depth = []
    for book in range(1, config.codebooks):
        depth += _layers("depth", config.depth, streams * (2 if book == 1 else 1))
        depth.append(Product(f"head {book}", config.depth.width, choices, Q6_K, streams))
    return backbone + first + depth


def _layers(name: str, part: TransformerConfig, rows: int) -> list[Product]:
    heads, keys = part.heads * part.head_size, part.kv_heads * part.head_size
    found = []
    for number in range(part.layers):
        layer, more = f"{name} {number}", is_sensitive(number, part.layers)
        if more:
            found.append(Product(f"{layer} qk", part.width, heads + keys, Q4_K, rows))
            found.append(Product(f"{layer} v", part.width, keys, Q6_K, rows))
        else:
            found.append(Product(f"{layer} qkv", part.width, heads + 2 * keys, Q4_K, rows))
        found += [
            Product(f"{layer} o", heads, part.width, Q4_K, rows),
            Product(f"{layer} gate_up", part.width, 2 * part.mlp_width, Q4_K, rows),
            Product(f"{layer} down", part.mlp_width, part.width, Q6_K if more else Q4_K, rows),
        ]
    return found


class GgmlFrame:
    """All products of a frame as one graph."""

    def __init__(
        self, library: Library, wanted: list[Product], threads: int, *, repack: bool = True
    ) -> None:
        self._library = library
        self._backend = library.ggml_backend_cpu_init()
        library.ggml_backend_cpu_set_n_threads(self._backend, threads)
        plain = library.ggml_backend_get_default_buffer_type(self._backend)
        repacking = library.repacking() if repack else None
        self.is_repacked = repacking is not None
        of = {product.weights: product for product in wanted}
        weights: dict[str, int] = {}
        self.bytes_of: dict[str, int] = {}
        rounded: dict[tuple[int, int], bytes] = {}
        for kind, memory in ((Q4_K, repacking or plain), (Q6_K, plain)):
            mine = [product for product in of.values() if product.kind == kind]
            if not mine:
                continue
            context = self._context(len(mine))
            for product in mine:
                weights[product.weights] = library.ggml_new_tensor_2d(
                    context, kind, product.inputs, product.outputs
                )
            assert library.ggml_backend_alloc_ctx_tensors_from_buft(context, memory)
            for product in mine:
                key = (kind, product.inputs)
                if key not in rounded:
                    rounded[key] = self._round(*key)
                data = rounded[key] * -(-product.outputs // _ROWS)
                size = library.ggml_row_size(kind, product.inputs) * product.outputs
                self.bytes_of[product.weights] = size
                library.ggml_backend_tensor_set(weights[product.weights], data[:size], 0, size)
        context = self._context(2 * len(wanted) + 16, graph=True)
        self._graph = library.ggml_new_graph_custom(context, _NODES, False)
        inputs: dict[tuple[int, int], int] = {}
        for product in wanted:
            key = (product.inputs, product.rows)
            if key not in inputs:
                inputs[key] = library.ggml_new_tensor_2d(context, F32, *key)
            self.last = library.ggml_mul_mat(context, weights[product.weights], inputs[key])
            library.ggml_build_forward_expand(self._graph, self.last)
        assert library.ggml_backend_alloc_ctx_tensors_from_buft(context, plain)
        random = np.random.default_rng(1)
        for (width, rows), tensor in inputs.items():
            x = random.standard_normal(width * rows).astype(np.float32)
            library.ggml_backend_tensor_set(tensor, x.ctypes.data, 0, x.nbytes)
        self.bytes_read = sum(self.bytes_of[product.weights] for product in wanted)

    def compute(self) -> None:
        status = self._library.ggml_backend_graph_compute(self._backend, self._graph)
        assert status == 0, status

    def result(self, outputs: int) -> np.ndarray:
        """What the last product came to, for one row."""
        values = np.zeros(outputs, np.float32)
        self._library.ggml_backend_tensor_get(self.last, values.ctypes.data, 0, values.nbytes)
        return values

    def _context(self, tensors: int, *, graph: bool = False) -> int:
        library = self._library
        size = tensors * library.ggml_tensor_overhead()
        size += library.ggml_graph_overhead_custom(_NODES, False) if graph else 0
        return int(library.ggml_init(_InitParams(size, None, True)))

    def _round(self, kind: int, width: int) -> bytes:
        x = np.random.default_rng(width).standard_normal((_ROWS, width)).astype(np.float32)
        x *= np.float32(width**-0.5)
        size = _ROWS * self._library.ggml_row_size(kind, width)
        data = ctypes.create_string_buffer(size)
        made = self._library.ggml_quantize_chunk(
            kind, x.ctypes.data, ctypes.addressof(data), 0, _ROWS, width, None
        )
        assert made == size, (made, size)
        return data.raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=available_cpus())
    arguments = parser.parse_args()
    try:
        library = Library()
    except Missing as lack:
        print(f"skipped: {lack}")
        return
    from csm_company import Speaker, random_weights

    ggml = GgmlFrame(library, products(CSM_1B, arguments.streams), arguments.threads)
    ours = Speaker(random_weights(CSM_1B, "int4"), arguments.threads, arguments.streams)
    print(
        f"ggml: {ggml.bytes_read / 1e9:.2f} GB a frame, Q4_K "
        f"{'repacked' if ggml.is_repacked else 'as in files'}; streams: {arguments.streams}, "
        f"threads: {arguments.threads}",
        flush=True,
    )
    works = {"ours, the whole language model": ours.speak, "ggml, products": ggml.compute}
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    taken = take_turns(works, arguments.rounds, clock)
    for name, times in taken.items():
        print(f"{name}: {1e3 * float(np.median(times)):.1f} ms, least {1e3 * min(times):.1f} ms")
    mine, its = taken.values()
    low, middle, high = np.quantile(np.array(its) / np.array(mine), (0.25, 0.5, 0.75))
    print(
        f"ggml's products take {middle:.2f} times as long as our language model, {low:.2f} to "
        f"{high:.2f} in half of the rounds"
    )


def take_turns(
    works: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each in every round; the first of two runs warms up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            work()
            began = clock()
            work()
            taken[name].append(clock() - began)
    return taken


if __name__ == "__main__":
    main()
