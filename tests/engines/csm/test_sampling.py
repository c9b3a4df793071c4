from __future__ import annotations

import numpy as np

from tts_provider.engines.csm.sampling import Sampler


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
