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


def run(code: str, **variables: str) -> None:
    environment = {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore", **variables}
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
def test_a_turn_is_pytorch_s_to_the_bit_and_writes_where_it_should():
    """Float32 with the backbone's heads and the depth decoder's, tokens of rows side by side, one
    position for all, and heads whose half is no power of two; bfloat16 but for its last bit, which
    the interpreter cuts off."""
    run("""
from tts_provider.engines.csm.torch import language

def places(rows, positions, heads, half, rotated):
    angles = torch.arange(rotated * heads * half).float().reshape(rotated, heads, half)
    return language.Places(rows, positions, torch.polar(torch.ones_like(angles), angles))

numbers = torch.arange(6)
for heads, kv_heads, size in ((32, 8, 64), (8, 2, 128), (2, 1, 12)):
    for rows, positions, rotated in (
        (6 - numbers, 2 * numbers, 6),
        (numbers, torch.tensor([3]).expand(6), 1),
        (numbers // 2, numbers % 2, 6),
    ):
        all_heads = heads + 2 * kv_heads
        at = places(rows, positions, all_heads, size // 2, rotated)
        for dtype in (torch.float32, torch.bfloat16):
            qkv = torch.randn((6, all_heads, size), generator=random).to(dtype)
            kv = torch.full((3, 7, 2, kv_heads, 11, size), 99, dtype=dtype)
            plain, ours = kv.clone(), kv.clone()
            q_plain = language.turn(qkv.clone(), at, plain[1])
            q_ours = kernels.turn(qkv.clone(), at, ours[1])
            assert not torch.equal(plain, kv)
            if dtype == torch.float32:
                assert torch.equal(q_ours, q_plain)
                assert torch.equal(ours, plain)
            else:
                assert torch.equal(ours == kv, plain == kv), "written elsewhere"
                for one, other in ((q_ours, q_plain), (ours, plain)):
                    assert torch.allclose(one.float(), other.float(), rtol=0.008, atol=1e-6)
""")


@TRITON
def test_a_device_that_computes_as_pytorch_does_is_found_to():
    run("""
assert kernels.why_not(torch.device("cpu")) is None
right = kernels.turn
kernels.turn = lambda qkv, places, cache: right(qkv, places, cache[:, [1, 0]])
assert kernels.why_not(torch.device("cpu")) == "the kernel turns otherwise than PyTorch"
kernels.turn = right
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
from tts_provider.engines.csm.torch import programs
said = []
for has in (False, True):
    programs.has_kernels = lambda device: has
    backend = make_torch_backend(Path({str(small_folder)!r}), slots=2)
    assert backend._programs.uses_kernels == has
    slots = [backend.acquire(), backend.acquire()]
    for slot in slots:
        backend.prefill(slot, text_prompt([128000, 5 + slot, 60, 128001], 32))
    samplers = [Sampler(3), Sampler(4, 1.0, 900, depth_top_k=30)]
    said.append(np.array([backend.step(slots, samplers) for _ in range(2)]))
assert np.array_equal(*said)
""")


@TRITON
def test_they_compile_to_machine_code_without_a_gpu(tmp_path):
    """Triton brings its own assembler; what the interpreter takes a compiler may not."""
    run(
        """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compiled(kernel, constants, warps=4, **types):
    signature = dict.fromkeys(kernel.arg_names, "i32")
    signature |= dict.fromkeys([n for n in kernel.arg_names if "stride" in n], "i64")
    signature |= types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": warps}).asm

whole = dict(keys="*i64", frames="*i64", top_ks="*i64", chosen="*i64")
mix = {name: signed(getattr(kernels, name)) for name in ("STEP", "MIX_1", "MIX_2", "FRAME_SHIFT")}
scores = dict(inverses="*fp32", bests="*fp32")
places = dict(rotations="*fp32", rows="*i64", positions="*i64")
for type in ("*bf16", "*fp32"):
    for asm in (
        compiled(kernels._draw, {"BLOCK": 2048, **mix}, logits=type, **scores, **whole),
        compiled(kernels._gate, {"BLOCK": 1024}, x=type, out=type),
        compiled(kernels._turn, {"BLOCK": 32}, 1, qkv=type, cache=type, **places),
    ):
        assert len(asm["cubin"]) > 1000
""",
        TRITON_INTERPRET="0",
        TRITON_CACHE_DIR=str(tmp_path),
    )


def test_without_triton_pytorch_does_it(monkeypatch):
    import torch

    from tts_provider.engines.csm.torch import kernels

    monkeypatch.setattr(kernels, "triton", None)
    assert kernels.why_not(torch.device("cpu")) == "Triton is not installed"
