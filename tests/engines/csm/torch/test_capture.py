"""What a CUDA graph asks of what it holds, checked without CUDA at the published model's size.

On the meta device a tensor has a shape and no values: whatever wants to look at a value fails, and
a tensor made on the wrong device shows.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engines.csm.small_codec import make_small_mimi, mimi_config_of, mimi_weights_of
from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.files.checkpoint import expected_shapes
from tts_provider.engines.csm.torch.mimi import MimiDecoder, MimiWeights
from tts_provider.engines.csm.torch.sampling import candidates, noise
from tts_provider.engines.csm.torch.weights import load_language

META = torch.device("meta")
SLOTS, ROWS = 8, 4


class NothingLeaves(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        assert all(tensor.device == META for tensor in tensors), operation
        return result


def integers(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=META)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_frame_and_a_piece_of_a_prompt(dtype):
    shapes = expected_shapes(CSM_1B)
    with torch.no_grad():
        backbone, depth = load_language(
            CSM_1B,
            lambda name: torch.empty(shapes[name], dtype=torch.float32, device=META),
            codes=2048,
            slots=SLOTS,
            device=META,
            dtype=dtype,
        )
        with NothingLeaves():
            numbers = integers(ROWS)
            draws = noise(numbers, numbers, CSM_1B.codebooks, 2048)
            allowed, inverses = candidates(numbers, 64), torch.empty((ROWS, 2), device=META)
            hidden = backbone.hidden[numbers]
            codes, is_finite = depth.speak(hidden, draws, (allowed, allowed), inverses)
            backbone.read(backbone.embed_frames(codes)[:, None], numbers, numbers, numbers, 256)
            x = backbone.embed(integers(64), integers(64, 32))[None]
            backbone.read(x, numbers[:1], numbers[:1], numbers[:1], 2048)
    assert (codes.shape, codes.dtype) == ((ROWS, 32), torch.int64)
    assert (is_finite.shape, is_finite.dtype) == ((ROWS,), torch.bool)
    assert backbone.kv.shape == (16, SLOTS + 1, 2, 8, 2048, 64)


def test_a_chunk_of_sound():
    model = make_small_mimi(0)
    weights = MimiWeights(mimi_config_of(model), mimi_weights_of(model), META)
    with torch.no_grad():
        decoder = MimiDecoder(weights, SLOTS + 1)
        with NothingLeaves():
            samples = decoder.run(integers(ROWS), integers(ROWS), integers(ROWS, 2, 32))
    assert samples.shape == (ROWS, 2 * 1920)
