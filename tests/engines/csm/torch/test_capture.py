"""What a CUDA graph asks of what it holds, checked without CUDA at the published model's size.

On the meta device a tensor has a shape and no values: whatever wants to look at a value fails, and
a tensor made on the wrong device shows.
"""

from __future__ import annotations

import pytest

from engines.csm.small_codec import make_small_mimi, mimi_config_of, mimi_weights_of
from lazy_import import lazy_import
from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH
from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.files.checkpoint import expected_shapes

adapters = lazy_import("tts_provider.engines.csm.torch.adapters")
mimi = lazy_import("tts_provider.engines.csm.torch.mimi")
sampling = lazy_import("tts_provider.engines.csm.torch.sampling")
tape = lazy_import("engines.csm.torch.tape")
torch = lazy_import("torch")
weights = lazy_import("tts_provider.engines.csm.torch.weights")

META = "meta"
SLOTS, ROWS = 8, 4


def nothing_leaves():
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class NothingLeaves(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            leaves = tree_leaves((args, kwargs, result))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            assert all(tensor.device.type == META for tensor in tensors), operation
            return result

    return NothingLeaves()


def integers(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=META)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_frame_and_a_piece_of_a_prompt(dtype):
    shapes = expected_shapes(CSM_1B)
    with torch.no_grad():
        backbone, depth = weights.load_language(
            CSM_1B,
            lambda name: torch.empty(shapes[name], dtype=torch.float32, device=META),
            codes=2048,
            slots=SLOTS,
            device=torch.device(META),
            dtype=getattr(torch, dtype),
        )
        with nothing_leaves():
            numbers = integers(ROWS)
            draws = sampling.noise(numbers, numbers, CSM_1B.codebooks, 2048)
            allowed, inverses = (
                sampling.candidates(numbers, 64),
                torch.empty((ROWS, 2), device=META),
            )
            hidden = backbone.hidden[numbers]
            codes, is_finite = depth.speak(
                hidden, sampling.NoiseDraws(draws, (allowed, allowed), inverses)
            )
            backbone.read(backbone.embed_frames(codes)[:, None], numbers, numbers, numbers, 256)
            x = backbone.embed(integers(64), integers(64, 32))[None]
            backbone.read(x, numbers[:1], numbers[:1], numbers[:1], 2048)
    assert (codes.shape, codes.dtype) == ((ROWS, 32), torch.int64)
    assert (is_finite.shape, is_finite.dtype) == ((ROWS,), torch.bool)
    assert backbone.kv.shape == (16, SLOTS + 1, 2, 8, 2048, 64)


@pytest.fixture
def fused(monkeypatch):
    """What CUDA has a kernel for, which the meta device takes apart: counted as one."""
    monkeypatch.setattr("torch.nn.functional.rms_norm", lambda x, *_: x.neg())
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention", lambda q, *_, **__: q.neg()
    )


def replaced(kernels: list[str]) -> dict:
    """What stands for our kernels, one each, and notes them."""

    def gate(gate_up):
        kernels.append("gate")
        return gate_up.chunk(2, dim=1)[0]

    def turn(qkv, places, cache):
        assert len(places.rows) == len(places.positions) == len(qkv)
        kernels.append("turn")
        return qkv[:, : -2 * cache.shape[2]]

    return {"gate": gate, "turn": turn}


class Drawn:
    def __init__(self, kernels: list[str]) -> None:
        self.kernels, self.code = kernels, integers(1)

    def pick(self, book, logits):
        self.kernels.append("draw")
        return self.code, logits[:, 0]


def plain_draws():
    numbers = integers(1)
    noise = sampling.noise(numbers, numbers, CSM_1B.codebooks, 2048)
    allowed, inverses = sampling.candidates(numbers, 64), torch.empty((1, 2), device=META)
    return sampling.NoiseDraws(noise, (allowed, allowed), inverses)


# Kernels, counted: those of a frame's speech and of its reading, with PyTorch's alone and with
# ours for the draw, for RoPE with the cache and for the gate; reading where slots lie side by side.
@pytest.mark.parametrize(
    ("ours", "speak", "read", "read_in_place"),
    [(False, 2014, 244, 228), (True, 1263, 180, 164)],
)
def test_a_frame_starts_no_more_kernels_than_it_did(fused, ours, speak, read, read_in_place):
    """A ceiling, in bfloat16 at the published size: each kernel costs a microsecond or two, and
    there are 31 depth steps of 4 layers."""
    kernels: list[str] = []
    shapes = expected_shapes(CSM_1B)
    with torch.no_grad():
        backbone, depth = weights.load_language(
            CSM_1B,
            lambda name: torch.empty(shapes[name], dtype=torch.bfloat16, device=META),
            codes=2048,
            slots=SLOTS,
            device=torch.device(META),
            dtype=torch.bfloat16,
            **(replaced(kernels) if ours else {}),
        )
        numbers = integers(1)

        def counted(work) -> int:
            kernels.clear()
            with tape.Notes() as notes:
                work()
            return tape.launches(notes.counts) + len(kernels)

        hidden, codes = backbone.hidden[numbers], integers(1, CSM_1B.codebooks)
        draws = Drawn(kernels) if ours else None
        assert counted(lambda: depth.speak(hidden, draws or plain_draws())) <= speak

        def read_frame(**options) -> None:
            x = backbone.embed_frames(codes)[:, None]
            backbone.read(x, numbers, numbers, numbers, 256, **options)

        assert counted(read_frame) <= read
        assert counted(lambda: read_frame(in_place=True)) <= read_in_place

        # Fifteen more a layer where rows have adapters, however many there are; one mask a program.
        bank = adapters.AdapterBank(CSM_1B, 512, torch.device(META), torch.bfloat16, weights.pairs)

        def speak_adapted() -> None:
            depth.speak(hidden, draws or plain_draws(), bank.of(DEPTH, numbers))

        def read_adapted() -> None:
            read_frame(adapters=bank.of(BACKBONE, numbers))

        assert counted(speak_adapted) <= speak + 31 * 4 * 15 + 1
        assert counted(read_adapted) <= read + 16 * 15 + 1


def test_a_chunk_of_sound():
    model = make_small_mimi(0)
    read = mimi.MimiWeights(mimi_config_of(model), mimi_weights_of(model), torch.device(META))
    with torch.no_grad():
        decoder = mimi.MimiDecoder(read, SLOTS + 1)
        with nothing_leaves():
            samples = decoder.run(integers(ROWS), integers(ROWS), integers(ROWS, 2, 32))
    assert samples.shape == (ROWS, 2 * 1920)
