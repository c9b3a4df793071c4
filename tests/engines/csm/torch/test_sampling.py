from __future__ import annotations

import numpy as np
import pytest
import torch

from tts_provider.engines.csm.torch.sampling import (
    NARROW_TOP_K,
    bound_inverse,
    noise,
    pick,
    seed_bits,
)

CODES, BOOKS = 2048, 32


def draw(logits, seeds, frames, top_k, temperature, *, width=NARROW_TOP_K, book=0) -> np.ndarray:
    """A code of each seed, all from the same logits (codes,)."""
    rows = len(seeds)
    draws = noise(
        torch.tensor(seeds), torch.tensor(frames), torch.full((rows,), top_k), BOOKS, width
    )
    inverse = torch.full((rows, 1), bound_inverse(temperature))
    codes, best = pick(logits.expand(rows, -1), draws[:, book], inverse)
    assert torch.equal(best, logits.max().expand(rows))
    return codes.numpy()


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 2 * torch.randn(CODES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("top_k", "temperature"), [(3, 0.7), (50, 0.9), (50, 2.0)])
def test_the_best_are_drawn_in_their_proportion(logits, top_k, temperature):
    count, best = 4000, logits.topk(top_k)
    seeds = [seed_bits(number) for number in range(count)]
    drawn = draw(logits, seeds, [5] * count, top_k, temperature)
    wanted = torch.softmax(best.values / temperature, 0).numpy()
    found = np.array([(drawn == code).mean() for code in best.indices.numpy()])
    assert set(drawn) <= set(best.indices.tolist())
    # Five standard deviations of a frequency.
    assert (np.abs(found - wanted) < 5 * np.sqrt(wanted / count) + 1 / count).all()


def test_one_seed_over_many_frames_is_as_good_as_many_seeds(logits):
    count, best = 4000, logits.topk(4)
    drawn = draw(logits, [seed_bits(1)] * count, list(range(count)), 4, 0.9, book=31)
    wanted = torch.softmax(best.values / 0.9, 0).numpy()
    found = np.array([(drawn == code).mean() for code in best.indices.numpy()])
    assert np.abs(found - wanted).max() < 0.04
    repeats = (drawn[1:] == drawn[:-1]).mean()
    assert abs(repeats - (wanted**2).sum()) < 0.04, "a frame tells nothing of the next"


def test_top_k_of_one_is_the_best_whatever_the_noise(logits):
    drawn = draw(logits, [seed_bits(number) for number in range(64)], [0] * 64, 1, 1.0)
    assert (drawn == int(logits.argmax())).all()


SEEDS = [seed_bits(number) for number in range(64)]


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-40, 1e-30])
@pytest.mark.parametrize("shift", [0.0, -100.0, 1e30])
@pytest.mark.parametrize("top_k", [1, 50])
def test_a_temperature_near_zero_is_greedy(logits, temperature, shift, top_k):
    values = logits * 1e25 + shift if shift > 1 else logits + shift
    drawn = draw(values, SEEDS, [0] * 64, top_k, temperature)
    assert (drawn == int(values.argmax())).all()


@pytest.mark.parametrize("temperature", [1e-308, 0.9, 1e38, 1e308])
def test_what_is_minus_infinity_is_never_drawn(logits, temperature):
    values = logits.masked_fill(logits < logits.topk(3).values[-1], -torch.inf)
    drawn = draw(values, SEEDS, [0] * 64, 50, temperature)
    assert set(drawn) <= set(logits.topk(3).indices.tolist())
    assert len(set(drawn)) == (1 if temperature < 0.1 else 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("top_k", [1, 50])
def test_logits_that_are_not_finite_show_in_the_best_of_them(logits, value, top_k):
    broken = torch.stack([logits, logits.clone(), logits])
    if value == -torch.inf:
        broken[1] = value
    else:
        broken[1, 1234] = value
    draws = noise(
        torch.tensor(SEEDS[:3]), torch.zeros(3, dtype=int), torch.full((3,), top_k), BOOKS, 64
    )
    codes, best = pick(broken, draws[:, 0], torch.full((3, 1), 1.0))
    assert best.isfinite().tolist() == [True, False, True]
    assert ((codes >= 0) & (codes < CODES)).all(), "a code in any case: tables are read by it"


def test_a_wider_draw_says_the_same(logits):
    """Rows with a long top-k go another way, and may share a step with those that have not."""
    seeds, frames = [seed_bits(number) for number in range(200)], [7] * 200
    narrow = draw(logits, seeds, frames, 50, 0.9)
    assert np.array_equal(narrow, draw(logits, seeds, frames, 50, 0.9, width=CODES))
    everything = draw(logits, seeds, frames, CODES, 2.0, width=CODES)
    assert len(set(everything)) > NARROW_TOP_K


def test_noise_depends_on_seed_frame_codebook_and_rank_alone():
    seeds, frames = torch.tensor([seed_bits(3), seed_bits((3, 0)), seed_bits(3)]), torch.arange(3)
    top_k = torch.tensor([5, 64, 9])
    together = noise(seeds, frames, top_k, BOOKS, 64)
    for row in range(3):
        alone = noise(seeds[row : row + 1], frames[row : row + 1], top_k[row : row + 1], BOOKS, 64)
        assert torch.equal(alone[0], together[row])
        assert together[row, :, int(top_k[row]) :].isinf().all()
    values = noise(seeds, frames, torch.full((3,), 64), BOOKS, 64)
    assert values.isfinite().all()
    assert values.unique().numel() > 0.999 * values.numel()
    # Mean and variance of Gumbel's distribution.
    assert abs(values.mean() - np.euler_gamma) < 0.05
    assert abs(values.var() - np.pi**2 / 6) < 0.1


def test_the_numbers_are_those_of_splitmix64():
    """Against Python's integers, which do not wrap."""

    def uniform(seed: int, number: int) -> float:
        z = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return ((z ^ (z >> 31)) >> 41) / 2**23 + 2**-24

    seed, frame, book, rank = seed_bits(11), 1999, 30, 63
    value = noise(torch.tensor([seed]), torch.tensor([frame]), torch.tensor([64]), BOOKS, 64)
    expected = -np.log(-np.log(uniform(seed, ((frame * BOOKS + book) << 11) + rank)))
    assert float(value[0, book, rank]) == pytest.approx(expected, rel=1e-4)


def test_seeds_of_all_kinds_are_64_bits_and_differ():
    seeds = [0, 2, 2**63 - 1, (1, 0, 0), (1, 0, 1), (1, 1, 0)]
    bits = [seed_bits(seed) for seed in seeds]
    assert len(set(bits)) == len(bits)
    assert all(-(2**63) <= value < 2**63 for value in bits)
    assert bits == [seed_bits(seed) for seed in seeds]
