from __future__ import annotations

import numpy as np
import pytest

from tts_provider.engines.csm.sampling import NO_CODE, Sampler


def logits(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, 2048).astype(np.float32)


def test_temperature_zero_is_the_best():
    assert Sampler(1, temperature=0).sample(logits()) == logits().argmax()


def test_only_the_top_k_are_drawn_and_in_their_proportion():
    values = logits()
    best = np.argsort(values)[-3:]
    sampler = Sampler(5, temperature=0.7, top_k=3)
    drawn = np.array([sampler.sample(values) for _ in range(20_000)])
    assert set(drawn) == set(best)
    weights = np.exp(values[best].astype(float) / 0.7)
    counts = np.array([(drawn == code).mean() for code in best])
    assert np.abs(counts - weights / weights.sum()).max() < 0.02


def test_a_seed_repeats_itself_and_another_does_not():
    def draw(seed):
        sampler = Sampler(seed)
        return [sampler.sample(logits(number)) for number in range(50)]

    assert draw(3) == draw(3) != draw(4)
    assert draw((3, 0)) != draw((3, 1))


def test_greedy_and_sampled_use_the_same_number_of_draws():
    one, other = Sampler(9), Sampler(9, temperature=0)
    one.sample(logits())
    other.sample(logits())
    other.temperature = 0.9
    assert one.sample(logits(1)) == other.sample(logits(1))


def test_more_than_there_are_is_all_of_them():
    assert 0 <= Sampler(1, top_k=2048).sample(logits()[:10]) < 10


SHIFTS = [0.0, -100.0, 1e30, -1e30]


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-40, 1e-30])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("top_k", [1, 50, 5000])
def test_a_temperature_near_zero_is_greedy(temperature, shift, top_k):
    values = (logits() * max(1, abs(shift) / 1e5) + shift).astype(np.float32)
    sampler = Sampler(1, temperature, top_k)
    assert {sampler.sample(values) for _ in range(20)} == {values.argmax()}


def test_subnormal_logits_are_logits():
    values = np.float32(1e-45) * np.arange(10, dtype=np.float32)
    assert Sampler(1, 5e-324).sample(values) == 9
    sampler = Sampler(1)
    assert len({sampler.sample(values) for _ in range(200)}) == 10


def test_a_huge_temperature_draws_all_of_the_top_k_alike():
    values, sampler = logits(), Sampler(1, 1e308, top_k=4)
    drawn = np.array([sampler.sample(values) for _ in range(4000)])
    assert set(drawn) == set(np.argsort(values)[-4:])
    assert all(abs((drawn == code).mean() - 0.25) < 0.05 for code in set(drawn))


@pytest.mark.parametrize("temperature", [0, 1e-308, 0.9, 1e308])
def test_what_is_minus_infinity_is_never_drawn(temperature):
    values = np.full(2048, -np.inf, np.float32)
    values[[5, 700, 2047]] = 1, 1, 1
    sampler = Sampler(1, temperature)
    assert {sampler.sample(values) for _ in range(200)} <= {5, 700, 2047}
    values[[5, 700]] = -np.inf
    assert {sampler.sample(values) for _ in range(20)} == {2047}


def test_a_draw_at_the_very_end_finds_no_code_of_no_weight(monkeypatch):
    class Last:
        def random(self):
            return np.nextafter(1.0, 0.0)

    values = np.array([0, 0, 0, -np.inf, -np.inf], np.float32)
    sampler = Sampler(1, 1.0)
    monkeypatch.setattr(sampler, "_random", Last())
    assert sampler.sample(values) in (0, 1, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1e-308, 0.9, 1e308])
@pytest.mark.parametrize("top_k", [1, 50, 2048])
def test_logits_that_are_not_finite_have_no_code(value, temperature, top_k):
    values = logits()
    if value == -np.inf:
        values[:] = value
    else:
        values[1234] = value
    sampler = Sampler(1, temperature, top_k)
    assert sampler.sample(values) == NO_CODE
    other = Sampler(1, temperature, top_k)
    other.sample(logits())
    assert sampler.sample(logits(1)) == other.sample(logits(1)), "as many draws as ever"
