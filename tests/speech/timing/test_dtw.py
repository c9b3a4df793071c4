"""Words found again: in the same voice, another one, with pauses, in noise, and in nothing."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentences import SENTENCES
from servers import embedded_engine
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Manner, Samples, Utterance, Word
from tts_provider.speech.timing.dtw import Span, find_spans
from tts_provider.speech.timing.mfcc import measure_mfcc

MS = SAMPLE_RATE // 1000
HOP = 10 * MS
TEXT = SENTENCES[8]  # two clauses


@pytest.fixture(scope="module")
def engine():
    made = embedded_engine()
    asyncio.run(made.load(lambda line: None))
    yield made
    asyncio.run(made.close())


async def say(engine: Engine, text: str, voice_id: str) -> tuple[Samples, list[Word]]:
    voice = next(voice for voice in engine.voices() if voice.id == voice_id)
    chunks = [chunk async for chunk in engine.speak(Utterance(text, voice, Manner(seed=1)))]
    words = [word for chunk in chunks for word in chunk.words]
    return np.concatenate([chunk.samples for chunk in chunks]), words


def spans_of(words: list[Word]) -> list[Span]:
    return [(word.start, word.end) for word in words]


def assert_in_order(found: list[Span], samples: Samples) -> None:
    assert all(0 <= start <= end <= len(samples) for start, end in found)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))


async def test_a_voice_is_where_it_is_itself(engine):
    samples, words = await say(engine, TEXT, "female")
    found = find_spans(samples, samples, spans_of(words))
    assert_in_order(found, samples)
    # But for the silence before the first word and in the pause.
    errors = np.abs(np.array(found) - np.array(spans_of(words)))
    assert np.percentile(errors, 75) <= HOP / 2
    assert errors[:, 0].max() <= 40 * MS


@pytest.mark.parametrize("noise_db", [None, -20])
async def test_a_woman_is_where_a_man_is(engine, noise_db):
    draw, errors = np.random.default_rng(0), list[int]()
    for text in SENTENCES[:8]:
        samples, truth = await say(engine, text, "female")
        reference, words = await say(engine, text, "male")
        if noise_db is not None:
            level = np.sqrt(np.mean(samples**2)) * 10 ** (noise_db / 20)
            samples = samples + draw.normal(0, level, len(samples)).astype(np.float32)
        found = find_spans(samples, reference, spans_of(words))
        assert_in_order(found, samples)
        pairs = zip(truth, found, strict=True)
        errors += [abs(edge) for word, (a, b) in pairs for edge in (a - word.start, b - word.end)]
    assert np.median(errors) <= 40 * MS
    assert np.percentile(errors, 95) <= 120 * MS


async def test_of_speech_that_is_cut_the_words_that_are_said_are_found(engine):
    for text in SENTENCES[:8]:
        samples, truth = await say(engine, text, "female")
        reference, words = await say(engine, text, "male")
        cut = truth[len(truth) // 2].start
        found = find_spans(samples[:cut], reference, spans_of(words), is_cut=True)
        assert_in_order(found, samples[:cut])
        assert abs(len(found) - len(truth) // 2) <= 1
        for (start, _), word in zip(found[:-1], truth, strict=False):
            assert abs(start - word.start) <= 80 * MS


async def test_a_pause_belongs_to_no_word(engine):
    samples, words = await say(engine, TEXT, "male")
    cut = words[6].start
    pause = np.zeros(SAMPLE_RATE, np.float32)
    paused = np.concatenate([samples[:cut], pause, samples[cut:], pause])
    found = find_spans(paused, samples, spans_of(words))
    assert_in_order(found, paused)
    for number, ((start, end), word) in enumerate(zip(found, words, strict=True)):
        moved = len(pause) if number >= 6 else 0
        assert abs(start - word.start - moved) <= 60 * MS
        within = min(end, cut + len(pause)) - max(start, cut)
        assert within <= HOP
    assert found[-1][1] <= len(samples) + len(pause)


async def test_silence_and_nothing_have_words_too(engine):
    reference, words = await say(engine, TEXT, "male")
    spans = spans_of(words)
    for length in (0, 1, HOP, SAMPLE_RATE):
        silence = np.zeros(length, np.float32)
        assert_in_order(find_spans(silence, reference, spans), silence)
        found = find_spans(reference, silence, [(0, length), (length, length)])
        assert_in_order(found, reference)
    assert find_spans(reference, reference, []) == []


lengths = st.integers(0, SAMPLE_RATE // 2)


@settings(deadline=None)
@given(
    lengths,
    lengths,
    st.lists(lengths, max_size=12),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_said_words_are_in_order_and_within(
    length, known, edges, seed, is_quiet, is_cut
):
    draw = np.random.default_rng(seed)
    samples = draw.normal(0, 0.2, length).astype(np.float32)
    reference = draw.normal(0, 0.2, known).astype(np.float32)
    if is_quiet:
        samples[length // 3 :] = 0
    edges = sorted(min(edge, known) for edge in edges)
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    found = find_spans(samples, reference, spans, is_cut=is_cut)
    assert len(found) <= len(spans) if is_cut else len(found) == len(spans)
    assert_in_order(found, samples)


@pytest.mark.parametrize("hop", [1, 240, 599, 600, 601, 2000])
def test_every_hop_has_its_frame(hop):
    for length in (0, 1, hop - 1, hop, hop + 1, 5000):
        samples = np.full(length, 0.5, np.float32)
        frames = measure_mfcc(samples, hop)
        assert frames.shape == (max(1, -(-length // hop)), 16)
        assert np.isfinite(frames).all()


def test_memory_has_a_bound():
    """CSM-1B may speak for 164 s."""
    samples = np.random.default_rng(0).normal(0, 0.2, 164 * SAMPLE_RATE).astype(np.float32)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        (found,) = find_spans(samples, samples, [(SAMPLE_RATE, 2 * SAMPLE_RATE)])
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert found == pytest.approx((SAMPLE_RATE, 2 * SAMPLE_RATE), abs=100 * MS)
    assert peak < 3 * samples.nbytes + 40_000_000
