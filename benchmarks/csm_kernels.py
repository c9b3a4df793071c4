"""What the pieces of a CPU frame cost on ONNX Runtime: products by bits and block, calls, sampling.

    python benchmarks/csm_kernels.py

The products are the depth decoder's MLP, six layers of it with weights of their own, so that they
come from memory. The machine's other work comes and goes: the least of many rounds counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from bandwidth import Probe
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.onnx.graph import MICROSOFT, Graph
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.memory import use_huge_pages

STORED = ("4/32", "4/64", "4/128", "8/32", "8/64", "8/128", "2/64", "2/128")
LAYERS, ROUNDS = 6, 60
WIDTH, MLP = CSM_1B.depth.width, CSM_1B.depth.mlp_width


def build_mlps(bits: int, size: int) -> Callable[[int], None]:
    """Runs rows through LAYERS gated MLPs of random codes."""
    random, g = np.random.default_rng(0), Graph("mlps")
    x = g.input("x", np.float32, ["B", WIDTH])

    def product(name: str, x: str, rows: int, width: int) -> str:
        codes = random.integers(0, 256, (rows, width // size, size * bits // 8), np.uint8)
        scales = np.full(rows * width // size, 1e-3, np.float32)
        return g.op(
            "MatMulNBits",
            *(x, g.constant(f"{name}.codes", codes), g.constant(f"{name}.scales", scales)),
            domain=MICROSOFT,
            K=width,
            N=rows,
            bits=bits,
            block_size=size,
            accuracy_level=4,
        )

    for layer in range(LAYERS):
        both = product(f"gate_up_{layer}", x, 2 * MLP, WIDTH)
        gate, up = g.ops("Split", both, outputs=2, axis=-1, num_outputs=2)
        x = product(f"down_{layer}", g.op("Mul", gate, up), WIDTH, MLP)
    g.output(x, "y", np.float32, ["B", WIDTH])
    session = g.session(available_cpus())
    return lambda rows: session.run(None, {"x": np.full((rows, WIDTH), 0.01, np.float32)})


def build_empty() -> Callable[[], None]:
    """A call with as many bound buffers as a depth step has, and nothing to compute."""
    g, part = Graph("empty"), CSM_1B.depth
    shape = (1, part.kv_heads, CSM_1B.codebooks + 1, part.head_size)
    arrays = {f"kv_{number}": np.zeros(shape, np.float32) for number in range(2 * part.layers)}
    arrays["x"] = np.zeros((1, 1, WIDTH), np.float32)
    names = {name: g.input(name, np.float32, array.shape) for name, array in arrays.items()}
    g.output(names["x"], "y", np.float32, arrays["x"].shape)
    session, y = g.session(available_cpus()), np.zeros((1, 1, WIDTH), np.float32)
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    kept = (arrays, y)  # the binding holds addresses only

    def call() -> None:
        assert kept
        session.run_with_iobinding(binding)

    return call


def time_all(timed: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, in turns: the least."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(ROUNDS):
        for name, call in timed.items():
            call()
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: min(times) for name, times in taken.items()}


def main() -> None:
    probe = Probe(available_cpus())
    print(f"memory {probe.gb_per_s():.1f} GB/s; weights of one MLP: {3 * WIDTH * MLP / 1e6:.1f} M")
    mlps = {"4/64 in huge pages": build_mlps(4, 64)}
    use_huge_pages()  # what is there so far; what comes has pages of 4 KiB
    mlps |= {stored: build_mlps(*map(int, stored.split("/"))) for stored in STORED}
    for rows in (1, 8):
        found = time_all({stored: lambda m=m, r=rows: m(r) for stored, m in mlps.items()})  # type: ignore
        for stored, seconds in found.items():
            ms, rate = 1000 * seconds / LAYERS, LAYERS * 3 * WIDTH * MLP / seconds / 1e9
            print(f"{rows} rows, {stored:18}: {ms:6.3f} ms, {rate:5.1f} G weights/s")
    call, sampler = build_empty(), Sampler(1)
    logits = np.random.default_rng(0).normal(0, 2, 2048).astype(np.float32)
    found = time_all(
        {
            "100 empty calls": lambda: [call() for _ in range(100)],
            "100 samplings": lambda: [sampler.sample(logits) for _ in range(100)],
        }
    )
    for name, seconds in found.items():
        print(f"{name}: {1e6 * seconds / 100:.1f} µs each")
    print(f"memory {probe.gb_per_s():.1f} GB/s")


if __name__ == "__main__":
    main()
