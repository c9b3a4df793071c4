"""The kernels for CUDA in Triton's interpreter, against what PyTorch does in many."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from servers import REPOSITORY

# The interpreter is chosen when Triton is imported, so each test is a process. 200 MB that nothing
# else here needs.
TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: pip install triton==3.6.0, which needs no GPU",
)

COMMON = """
import numpy as np
import torch
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.torch import kernels
from tts_provider.engines.csm.torch.sampling import bound_inverse, signed, silu_gate

CODES = 2048
random = torch.Generator().manual_seed(0)

def draw(logits, samplers, book):
    ways = [s.of_book(book) for s in samplers]
    top_k = torch.tensor([1 if t == 0 else min(k, logits.shape[1]) for t, k in ways])
    inverse = torch.tensor([[bound_inverse(t)] * 2 for t, _ in ways])
    keys = torch.tensor([signed(s.key) for s in samplers])
    frames = torch.tensor([s.frames for s in samplers])
    return kernels.KernelDraws(keys, frames, (top_k, top_k), inverse.float()).pick(book, logits)
"""


def run(code: str) -> None:
    environment = {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"}
    paths = [path for path in sys.path if path]
    environment["PYTHONPATH"] = ":".join([str(REPOSITORY / "src"), *paths])
    command = [sys.executable, "-c", COMMON + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@TRITON
def test_it_draws_what_the_reference_draws():
    """All ways to sample, wide and narrow, ties at the edge of the candidates, few codes."""
    run("""
for count in (2048, 60):
    logits = 2 * torch.randn((24, count), generator=random)
    logits[12:] = logits[12:].bfloat16().float()  # many ties
    ways = [(0.9, 50), (2.0, 2048), (0.3, 7), (0, 50), (1e-30, 64), (1.0, 1)] * 4
    samplers = [Sampler(n, t, k, frames=n) for n, (t, k) in enumerate(ways)]
    for book in (0, 31):
        codes, best = draw(logits, samplers, book)
        wanted = [s.sample(row.numpy(), book) for s, row in zip(samplers, logits)]
        assert codes.tolist() == wanted, (codes.tolist(), wanted)
        assert torch.equal(best, logits.max(1).values)
    codes, _ = draw(logits.bfloat16(), samplers, 1)
    rest = zip(samplers[12:], logits[12:])
    assert codes[12:].tolist() == [s.sample(row.numpy(), 1) for s, row in rest]
""")


@TRITON
def test_what_is_not_finite_shows_and_minus_infinity_is_never_drawn():
    run("""
logits = 2 * torch.randn((6, CODES), generator=random)
logits[0, 1234] = torch.nan
logits[1, 77] = torch.inf
logits[2] = -torch.inf
logits[3, 5:] = -torch.inf
logits[4] = torch.nan
codes, best = draw(logits, [Sampler(n, 0.9, 50) for n in range(6)], 0)
assert best.isfinite().tolist() == [False, False, False, True, False, True], best
assert codes[3] < 5
assert ((codes >= 0) & (codes < CODES)).all()
""")


@TRITON
def test_the_gate_is_pytorch_s():
    run("""
for dtype, close in ((torch.float32, 1e-6), (torch.bfloat16, 0.016)):
    for mlp in (8192, 100):
        x = (3 * torch.randn((5, 2 * mlp), generator=random)).to(dtype)
        ours, plain = kernels.gate(x).float(), silu_gate(x).float()
        # The interpreter cuts bfloat16 off where a GPU rounds: twice a bit.
        assert torch.allclose(ours, plain, rtol=close, atol=1e-6), (ours - plain).abs().max()
""")


@TRITON
def test_a_device_that_computes_as_pytorch_does_is_found_to():
    run("""
assert kernels.why_not(torch.device("cpu")) is None
kernels.gate = lambda x: 1.1 * silu_gate(x)
assert kernels.why_not(torch.device("cpu")) == "the kernel gates otherwise than PyTorch"
def broken(*_):
    raise RuntimeError("no C compiler\\nand a page")
kernels.gate = broken
assert kernels.why_not(torch.device("cpu")) == "no C compiler and a page"
""")


@pytest.mark.slow("30 s: a whole backend in Triton's interpreter")
@TRITON
def test_a_backend_says_with_them_what_it_says_without(small_folder):
    run(f"""
from pathlib import Path
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from engines.csm.conftest import make_torch_backend
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.torch.backend import TorchBackend
said = []
for has in (False, True):
    TorchBackend._has_kernels = lambda self, device: has
    backend = make_torch_backend(Path({str(small_folder)!r}), slots=2)
    assert backend._use_kernels == has
    slots = [backend.acquire(), backend.acquire()]
    for slot in slots:
        backend.prefill(slot, text_prompt([128000, 5 + slot, 60, 128001], 32))
    samplers = [Sampler(3), Sampler(4, 1.0, 900, depth_top_k=30)]
    said.append(np.array([backend.step(slots, samplers) for _ in range(2)]))
assert np.array_equal(*said)
""")


def test_without_triton_pytorch_does_it(monkeypatch):
    import torch

    from tts_provider.engines.csm.torch import kernels

    monkeypatch.setattr(kernels, "triton", None)
    assert kernels.why_not(torch.device("cpu")) == "Triton is not installed"
