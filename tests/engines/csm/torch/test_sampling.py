from __future__ import annotations

import math

import numpy as np
import pytest

from engines.csm.test_sampling import CODES as GOLDEN_CODES
from engines.csm.test_sampling import DRAWN, NOISE, steps
from lazy_import import lazy_import
from tts_provider.engines.csm import sampling as reference
from tts_provider.engines.csm.sampling import Sampler

sampling = lazy_import("tts_provider.engines.csm.torch.sampling")
torch = lazy_import("torch")

CODES, BOOKS, NARROW_TOP_K = 2048, 32, 64


def key(seed) -> int:
    """What `signed` makes of it, without PyTorch."""
    bits = Sampler(seed).key
    return bits - (bits >> 63 << 64)


def draw(logits, keys, frames, top_k, temperature, *, width=NARROW_TOP_K, book=0) -> np.ndarray:
    """A code of each key, all from the same logits (codes,)."""
    rows = len(keys)
    draws = sampling.noise(torch.tensor(keys), torch.tensor(frames), book + 1, len(logits))
    inverse = torch.full((rows, 1), sampling.bound_inverse(temperature))
    allowed = sampling.candidates(torch.full((rows,), top_k), width)
    codes, best = sampling.pick(logits.expand(rows, -1), draws[:, book], allowed, inverse)
    assert torch.equal(best, logits.max().expand(rows))
    return codes.numpy()


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 2 * torch.randn(CODES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("top_k", "temperature"), [(3, 0.7), (50, 0.9), (50, 2.0)])
def test_the_best_are_drawn_in_their_proportion(logits, top_k, temperature):
    count, best = 4000, logits.topk(top_k)
    # One after the other, so that noise of 200 rows at a time is enough.
    parts = np.array_split([key(number) for number in range(count)], 20)
    drawn = [draw(logits, keys, [5] * len(keys), top_k, temperature) for keys in parts]
    drawn = np.concatenate(drawn)
    wanted = torch.softmax(best.values / temperature, 0).numpy()
    found = np.array([(drawn == code).mean() for code in best.indices.numpy()])
    assert set(drawn) <= set(best.indices.tolist())
    # Five standard deviations of a frequency.
    assert (np.abs(found - wanted) < 5 * np.sqrt(wanted / count) + 1 / count).all()


def test_top_k_of_one_is_the_best_whatever_the_noise(logits):
    drawn = draw(logits, [key(number) for number in range(64)], [0] * 64, 1, 1.0)
    assert (drawn == int(logits.argmax())).all()


KEYS = [key(number) for number in range(64)]


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-40, 1e-30])
@pytest.mark.parametrize("shift", [0.0, -100.0, 1e30])
@pytest.mark.parametrize("top_k", [1, 50])
def test_a_temperature_near_zero_is_greedy(logits, temperature, shift, top_k):
    values = logits * 1e25 + shift if shift > 1 else logits + shift
    drawn = draw(values, KEYS, [0] * 64, top_k, temperature)
    assert (drawn == int(values.argmax())).all()


@pytest.mark.parametrize("temperature", [1e-308, 0.9, 1e38, 1e308])
def test_what_is_minus_infinity_is_never_drawn(logits, temperature):
    values = logits.masked_fill(logits < logits.topk(3).values[-1], -torch.inf)
    drawn = draw(values, KEYS, [0] * 64, 50, temperature)
    assert set(drawn) <= set(logits.topk(3).indices.tolist())
    assert len(set(drawn)) == (1 if temperature < 0.1 else 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("top_k", [1, 50])
def test_logits_that_are_not_finite_show_in_the_best_of_them(logits, value, top_k):
    broken = torch.stack([logits, logits.clone(), logits])
    if value == -math.inf:
        broken[1] = value
    else:
        broken[1, 1234] = value
    draws = sampling.noise(torch.tensor(KEYS[:3]), torch.zeros(3, dtype=int), 1, CODES)
    allowed = sampling.candidates(torch.full((3,), top_k), NARROW_TOP_K)
    codes, best = sampling.pick(broken, draws[:, 0], allowed, torch.full((3, 1), 1.0))
    assert best.isfinite().tolist() == [True, False, True]
    assert ((codes >= 0) & (codes < CODES)).all(), "a code in any case: tables are read by it"


def test_a_wider_draw_says_the_same(logits):
    """Rows with a long top-k go another way, and may share a step with those that have not."""
    assert sampling.NARROW_TOP_K == NARROW_TOP_K
    assert [sampling.signed(Sampler(number).key) for number in range(64)] == KEYS
    narrow = draw(logits, KEYS, [7] * 64, 50, 0.9)
    assert np.array_equal(narrow, draw(logits, KEYS, [7] * 64, 50, 0.9, width=CODES))
    everything = draw(logits, KEYS, [7] * 64, CODES, 2.0, width=CODES)
    assert not set(everything) <= set(logits.topk(NARROW_TOP_K).indices.tolist())


def test_it_draws_what_the_reference_draws(logits):
    for temperature, top_k in ((0.9, 50), (2.0, 7), (0.3, 2048), (0, 50)):
        width = NARROW_TOP_K if top_k <= NARROW_TOP_K else CODES
        k = 1 if temperature == 0 else top_k
        for book in (0, 31):
            found = draw(logits, KEYS, range(64), k, temperature, width=width, book=book)
            samplers = [Sampler(seed, temperature, top_k, frames=seed) for seed in range(64)]
            assert found.tolist() == [s.sample(logits.numpy(), book) for s in samplers]


def test_the_values_that_others_compare_with():
    for (bits, frame, book), (_, wanted) in NOISE.items():
        found = sampling.noise(
            torch.tensor([sampling.signed(bits)]), torch.tensor([frame]), BOOKS, CODES
        )
        assert found[0, book, GOLDEN_CODES].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    for (temperature, top_k), frames in DRAWN.items():
        width = NARROW_TOP_K if top_k <= NARROW_TOP_K else CODES
        for position, book in enumerate((0, 1, 31)):
            keys, numbers, values = [key((11, 0, 0))] * 3, range(3), torch.from_numpy(steps())
            codes = draw(values, keys, numbers, top_k, temperature, width=width, book=book)
            assert codes.tolist() == [frame[position] for frame in frames]


@pytest.mark.parametrize("at_once", [1, 3 * CODES * 5, 2**22])
def test_noise_depends_on_key_frame_codebook_and_code_alone(monkeypatch, at_once):
    """However many of them are made at once."""
    monkeypatch.setattr("tts_provider.engines.csm.torch.sampling._VALUES_AT_ONCE", at_once)
    samplers = [Sampler(3, frames=0), Sampler((3, 0), frames=1999), Sampler(2**63 - 1, frames=2)]
    keys = torch.tensor([sampling.signed(sampler.key) for sampler in samplers])
    frames = torch.tensor([sampler.frames for sampler in samplers])
    together = sampling.noise(keys, frames, BOOKS, CODES)
    assert together.shape == (3, BOOKS, CODES)
    for row, sampler in enumerate(samplers):
        alone = sampling.noise(keys[row : row + 1], frames[row : row + 1], BOOKS, CODES)
        assert torch.equal(alone[0], together[row])
        for book in range(BOOKS):
            wanted = reference.gumbel(sampler.key, sampler.frames, book, np.arange(CODES))
            np.testing.assert_allclose(together[row, book].numpy(), wanted, rtol=1e-5, atol=1e-6)
