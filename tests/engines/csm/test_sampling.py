from __future__ import annotations

import numpy as np
import pytest

from tts_provider.engines.csm.sampling import NO_CODE, Sampler, gumbel


def logits(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, 2048).astype(np.float32)


def draw(sampler: Sampler, values: np.ndarray, count: int, book: int = 0) -> np.ndarray:
    """One code of each of the next frames."""
    codes = []
    for _ in range(count):
        codes.append(sampler.sample(values, book))
        sampler.frames += 1
    return np.array(codes)


def test_temperature_zero_is_the_best():
    assert Sampler(1, temperature=0).sample(logits()) == logits().argmax()


def test_only_the_top_k_are_drawn_and_in_their_proportion():
    values = logits()
    best = np.argsort(values)[-3:]
    drawn = draw(Sampler(5, temperature=0.7, top_k=3), values, 20_000)
    assert set(drawn) == set(best)
    weights = np.exp(values[best].astype(float) / 0.7)
    counts = np.array([(drawn == code).mean() for code in best])
    assert np.abs(counts - weights / weights.sum()).max() < 0.02


def test_a_frame_and_a_codebook_tell_nothing_of_the_next():
    values = logits()
    best = np.argsort(values)[-4:]
    weights = np.exp(values[best].astype(float) / 0.9)
    wanted = weights / weights.sum()
    sampler = Sampler(1, top_k=4)
    drawn = np.array([draw(sampler, values, 32, book) for book in range(128)])
    for pairs in (drawn[1:] == drawn[:-1], drawn[:, 1:] == drawn[:, :-1]):
        assert abs(pairs.mean() - (wanted**2).sum()) < 0.04


def test_a_seed_repeats_itself_and_another_does_not():
    def said(seed):
        sampler = Sampler(seed)
        return [draw(sampler, logits(number), 1)[0] for number in range(50)]

    assert said(3) == said(3) != said(4)
    assert said((3, 0)) != said((3, 1))


def test_a_draw_depends_on_its_frame_and_on_no_draw_before_it():
    one, other = Sampler(9, frames=7), Sampler(9)
    draw(other, logits(5), 7)
    assert one.sample(logits(1)) == other.sample(logits(1)) == one.sample(logits(1))
    assert len(set(draw(one, logits(1), 50))) > 10


# Whoever computes the definition elsewhere compares with these: by (key, frame, codebook) the
# numerators of `uniform`, which are exact, and the noise of codes 0, 1, 50 and 2047. The first two
# are what SplitMix64 is known by, 0xE220A8397B1DCDAF and 0x6E789E6AA1B965F4, with the last bit set.
CODES = [0, 1, 50, 2047]
NOISE = {
    (0, 0, 0): (
        (0xE220A9, 0x6E789F, 0xE3DDD9, 0x28B3BF),
        (2.0868440987, 0.1738501722, 2.1505757803, -0.6091659034),
    ),
    (1, 0, 0): (
        (0x910A2D, 0xBEEB8D, 0x4D4673, 0x706A09),
        (0.5653352999, 1.2264831976, -0.1804902714, 0.1948146532),
    ),
    (0, 1, 0): (
        (0x46093D, 0xE7FF81, 0x94E13B, 0xA7651B),
        (-0.2594112981, 2.3182224647, 0.6124189263, 0.8560862111),
    ),
    (0, 0, 1): (
        (0xA5535D, 0x5695F1, 0x1D9FD3, 0xBD6C97),
        (0.8272264879, -0.0806972657, -0.7685245717, 1.2000185977),
    ),
    (2**64 - 1, 1999, 31): (
        (0xD68D25, 0x4FBECD, 0xCDA57F, 0x5A3727),
        (1.7337074132, -0.1538701637, 1.5185971632, -0.0420789991),
    ),
}
KEYS = {0: 0xDB2CD7E7B0F478BE, 2**63 - 1: 0x7BDDCCF9B1009FE, (1, 0, 0): 0x672D8EE56D6791FF}
# What Sampler((11, 0, 0)) draws in its first three frames from `steps()`: codebooks 0, 1 and 31.
DRAWN = {
    (0.9, 50): [(1343, 1808, 2003), (1388, 1433, 1973), (1358, 1583, 1793)],
    (2.0, 2048): [(1142, 1709, 1556), (879, 1401, 1973), (365, 1390, 475)],
    (0.5, 5): [(2003, 2003, 2003), (1973, 2018, 1973), (1973, 2018, 2033)],
}


def steps() -> np.ndarray:
    """Logits from 0 to 8 in steps of 1/256, exact in bfloat16 too, in an order that mixes them."""
    return (np.arange(2048) * 7919 % 2048 / 256).astype(np.float32)


def test_the_noise_is_the_one_that_is_defined():
    for (key, frame, book), (numerators, noise) in NOISE.items():
        found = gumbel(key, frame, book, np.array(CODES))
        uniform = np.array(numerators) / 2**24
        assert found == pytest.approx(noise, abs=1e-9)
        assert found == pytest.approx(-np.log(-np.log(uniform)), abs=1e-12)
    assert {seed: Sampler(seed).key for seed in KEYS} == KEYS
    for (temperature, top_k), frames in DRAWN.items():
        sampler = Sampler((11, 0, 0), temperature, top_k)
        for frame in frames:
            assert tuple(sampler.sample(steps(), book) for book in (0, 1, 31)) == frame
            sampler.frames += 1


def test_noise_is_finite_and_distributed_as_gumbel_says():
    values = np.array([gumbel(77, frame, 3, np.arange(2048)) for frame in range(100)])
    assert np.isfinite(values).all()
    assert len(np.unique(values)) > 0.98 * values.size
    assert abs(values.mean() - np.euler_gamma) < 0.01
    assert abs(values.var() - np.pi**2 / 6) < 0.03


def test_logits_that_are_almost_equal_may_change_places(changed):
    """What another batch or another precision does to logits changes few draws: those where two
    scores are as near to each other. Noise by rank changed a hundred times as many."""
    random, sampler, draws = np.random.default_rng(0), Sampler(1), 4000
    flips = 0
    for _ in range(draws):
        values = random.normal(0, 2, 2048).astype(np.float32)
        flips += sampler.sample(values) != sampler.sample(changed(values, random))
        sampler.frames += 1
    assert flips <= changed.allowed * draws


class Shaken:
    """Each logit is off by 1e-4."""

    allowed = 0.0005

    def __call__(self, values, random):
        return values + random.choice([-1e-4, 1e-4], values.shape).astype(np.float32)


class Rounded:
    """Each logit has bfloat16's eight bits."""

    allowed = 0.03

    def __call__(self, values, random):
        bits = values.view(np.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        return (rounded & 0xFFFF0000).view(np.float32)


@pytest.fixture(params=[Shaken, Rounded])
def changed(request):
    return request.param()


@pytest.mark.parametrize("top_k", [1, 3, 50])
def test_of_equal_logits_the_smaller_codes_are_candidates(top_k):
    values = np.full(2048, 1.5, np.float32)
    values[[7, 2000]] = 0
    drawn = draw(Sampler(3, 0.9, top_k), values, 400)
    allowed = [code for code in range(top_k + 1) if code != 7][:top_k]
    assert set(drawn) <= set(allowed)
    assert len(set(drawn)) > 0.9 * top_k
    assert draw(Sampler(3, 0), values, 1)[0] == 0


def test_more_than_there_are_is_all_of_them():
    assert 0 <= Sampler(1, top_k=2048).sample(logits()[:10]) < 10


SHIFTS = [0.0, -100.0, 1e30, -1e30]


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-40, 1e-30])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("top_k", [1, 50, 5000])
def test_a_temperature_near_zero_is_greedy(temperature, shift, top_k):
    values = (logits() * max(1, abs(shift) / 1e5) + shift).astype(np.float32)
    assert set(draw(Sampler(1, temperature, top_k), values, 20)) == {values.argmax()}


def test_subnormal_logits_are_logits():
    values = np.float32(1e-45) * np.arange(10, dtype=np.float32)
    assert Sampler(1, 5e-324).sample(values) == 9
    assert len(set(draw(Sampler(1), values, 200))) == 10


def test_a_huge_temperature_draws_all_of_the_top_k_alike():
    values = logits()
    drawn = draw(Sampler(1, 1e308, top_k=4), values, 4000)
    assert set(drawn) == set(np.argsort(values)[-4:])
    assert all(abs((drawn == code).mean() - 0.25) < 0.05 for code in set(drawn))


@pytest.mark.parametrize("temperature", [0, 1e-308, 0.9, 1e308])
@pytest.mark.parametrize("top_k", [2, 50, 2048])
def test_what_is_minus_infinity_is_never_drawn(temperature, top_k):
    values = np.full(2048, -np.inf, np.float32)
    values[[5, 700, 2047]] = 1, 1, 1
    sampler = Sampler(1, temperature, top_k)
    assert set(draw(sampler, values, 200)) <= {5, 700, 2047}
    values[[5, 700]] = -np.inf
    assert set(draw(sampler, values, 20)) == {2047}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1e-308, 0.9, 1e308])
@pytest.mark.parametrize("top_k", [1, 50, 2048])
@pytest.mark.parametrize("count", [1, 60])
def test_logits_that_are_not_finite_have_no_code(value, temperature, top_k, count):
    values = logits()
    if value == -np.inf:
        values[:] = value
    else:
        values[1234 : 1234 + count] = value
    assert Sampler(1, temperature, top_k).sample(values) == NO_CODE
