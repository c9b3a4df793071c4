"""What the graphs rely on: padding of any kind changes no row's numbers."""

from __future__ import annotations

import pytest

from lazy_import import lazy_import
from tts_provider.engines.csm.files.checkpoint import open_checkpoint

sampling = lazy_import("tts_provider.engines.csm.torch.sampling")
torch = lazy_import("torch")
weights = lazy_import("tts_provider.engines.csm.torch.weights")

SLOTS = 4
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def language(small_folder):
    checkpoint = open_checkpoint(small_folder)
    with torch.no_grad():
        yield weights.load_language(
            checkpoint.config,
            weights.reader(checkpoint),
            codes=2048,
            slots=SLOTS,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2048, shape, generator=torch.Generator().manual_seed(seed))


def read(backbone, slot: int, codes: torch.Tensor, *, start=0, padded=None, span=256) -> None:
    frames = torch.zeros((padded or len(codes), 32), dtype=torch.int64)
    frames[: len(codes)] = codes
    x = backbone.embed_frames(frames)[None]
    backbone.read(x, *(torch.tensor([value]) for value in (slot, start, len(codes))), span)


def test_a_padded_piece_and_a_longer_span_read_the_same(language):
    backbone, _ = language
    codes = random_codes(7, 32)
    read(backbone, 0, codes)
    read(backbone, 1, codes, padded=16, span=1024)
    torch.testing.assert_close(backbone.hidden[1], backbone.hidden[0], **CLOSE)
    torch.testing.assert_close(backbone.kv[:, 1], backbone.kv[:, 0], **CLOSE)
    assert not backbone.kv[:, 1, :, :, 7:].any(), "padding leaves no trace"


def test_padding_beyond_the_last_position_leaves_no_trace(language):
    backbone, _ = language
    positions = backbone.kv.shape[4]
    read(backbone, 0, random_codes(3, 32), start=positions - 3, padded=16, span=positions)
    read(backbone, 1, random_codes(3, 32), start=positions - 3, span=positions)
    torch.testing.assert_close(backbone.kv[:, 0], backbone.kv[:, 1], **CLOSE)


def test_rows_of_different_length_beside_scratch_rows_read_the_same(language):
    backbone, _ = language
    lengths, codes = (5, 200, 31), random_codes(200, 32)
    for slot, length in enumerate(lengths):
        read(backbone, slot, codes[:length])
    before = backbone.kv.clone()
    frames = random_codes(4, 32, seed=1)
    for slot, length in enumerate(lengths):
        read(backbone, slot, frames[slot][None], start=length)
    alone, kv = backbone.hidden[:3].clone(), backbone.kv[:, :3].clone()
    backbone.kv.copy_(before)
    backbone.read(
        backbone.embed_frames(frames)[:, None],
        torch.tensor([0, 1, 2, SLOTS]),
        torch.tensor([*lengths, 0]),
        torch.ones(4, dtype=torch.int64),
        512,
    )
    torch.testing.assert_close(backbone.hidden[:3], alone, **CLOSE)
    torch.testing.assert_close(backbone.kv[:, :3], kv, **CLOSE)
    assert not backbone.kv[:, 3].any(), "a slot that is not named is not touched"


def test_tokens_and_codes_mix_in_a_prompt(language):
    backbone, _ = language
    codes = random_codes(3, 32)
    x = backbone.embed(torch.tensor([128000, -1, 9]), codes)
    assert torch.equal(x[1], backbone.embed_frames(codes)[1])
    assert torch.equal(x[0], backbone.embed(torch.tensor([128000]), codes[2:])[0])


def test_the_depth_decoder_says_the_same_in_any_company(language):
    backbone, depth = language
    for slot in range(3):
        read(backbone, slot, random_codes(5, 32, seed=slot))
    keys, frames = torch.tensor([1, 2, 3, 0]), torch.tensor([0, 4, 9, 0])
    allowed = sampling.candidates(torch.tensor([1, 50, 3, 1]), 64)
    inverses = torch.full((4, 2), 1 / 0.9)
    hidden = backbone.hidden[[0, 1, 2, SLOTS]]
    draws = sampling.noise(keys, frames, 32, 2048)
    together, _ = depth.speak(hidden, sampling.NoiseDraws(draws, (allowed, allowed), inverses))
    assert together.shape == (4, 32)
    assert together.max() < 2048
    for row in range(3):
        one = slice(row, row + 1)
        both = (allowed[one], allowed[one])
        own = sampling.NoiseDraws(draws[one], both, inverses[one])
        alone, _ = depth.speak(hidden[one], own)
        assert torch.equal(alone[0], together[row])
