"""A frame in one call: the codes that sampling.py and single products find, draw by draw."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace

import numpy as np
import pytest

from tts_provider.engines.csm.cpu.language import Frame
from tts_provider.engines.csm.cpu.stepwise import Stepwise
from tts_provider.engines.csm.cpu.weights import load_weights
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.native.language import NativeLanguage
from tts_provider.engines.csm.native.library import Sampling
from tts_provider.engines.csm.sampling import NO_CODE, Sampler

from .conftest import HERE, SLOW_ELSEWHERE

SLOTS, CHOICES = 6, 2048


@pytest.fixture(scope="module", params=[*HERE, *SLOW_ELSEWHERE])
def kernels(request, kernels_for):
    return kernels_for(request.param)


@pytest.fixture(scope="module")
def weights(small_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return load_weights(open_checkpoint(small_folder), "int4", folder, print)


@pytest.fixture(scope="module")
def config(small_folder):
    return open_checkpoint(small_folder).config


@pytest.fixture(scope="module")
def language(kernels, config, weights):
    made = NativeLanguage(kernels, config, weights, slots=SLOTS, threads=2)
    yield made
    made.close()


def draw(kernels, sampler: Sampler, logits: np.ndarray, book: int) -> int:
    (temperature, top_k), (depth_temperature, depth_top_k) = map(sampler.of_book, (0, 1))
    sampling = Sampling(
        sampler.key, sampler.frames, temperature, depth_temperature, top_k, depth_top_k
    )
    keys = np.empty(len(logits) + 16, np.int32)
    logits = np.ascontiguousarray(logits)
    draw_code = kernels.calls.draw_code
    return draw_code(
        ctypes.byref(sampling),
        *(book, ctypes.c_void_p(logits.ctypes.data), len(logits)),
        ctypes.c_void_p(keys.ctypes.data),
    )


def hard_logits(random: np.random.Generator, number: int) -> np.ndarray:
    logits = random.normal(0, 2, int(random.integers(1, 2100))).astype(np.float32)
    match number % 8:
        case 1:  # many are equal
            logits = np.round(logits)
        case 2:
            logits *= np.float32(1e30)
        case 3:
            logits *= np.float32(1e-45)
        case 4:
            logits[random.random(len(logits)) < 0.5] = -np.inf
        case 5:
            logits[random.integers(len(logits))] = random.choice([np.nan, np.inf, -np.inf])
        case 6:
            logits[:] = random.choice(np.array([-np.inf, -0.0, 0.0, 7.0], np.float32))
        case 7:
            logits[random.random(len(logits)) < 0.3] = -0.0
            logits[random.random(len(logits)) < 0.3] = 0.0
    return logits


def test_draws_are_those_of_the_definition(kernels):
    random = np.random.default_rng(0)
    drawn = set()
    for number in range(4000):
        sampler = Sampler(
            number,
            temperature=random.choice([0, 5e-324, 1e-300, 0.3, 0.9, 1.5, 1e308]),
            top_k=int(random.choice([1, 2, 16, 50, 2048, 5000])),
            depth_temperature=random.choice([None, 0, 0.7]),
            depth_top_k=random.choice([None, 1, 30]),
            frames=int(random.integers(1 << 20)),
        )
        logits, book = hard_logits(random, number), int(random.integers(32))
        expected = sampler.sample(logits, book)
        assert draw(kernels, sampler, logits, book) == expected, (number, sampler, book)
        drawn.add(expected)
    assert NO_CODE in drawn
    assert len(drawn) > 500


def test_codes_without_a_chance_are_counted_once(kernels):
    """Where they do not fill the last vector: what fills it was once searched for before the keys,
    which ended the process."""
    for count in range(1, 40):
        logits = np.full(count, -np.inf, np.float32)
        logits[count // 2] = 1
        sampler = Sampler(count, temperature=0.9, top_k=50)
        assert draw(kernels, sampler, logits, 0) == count // 2


def frame_of(config, *, samplers, read=None, lengths=3, rows=None, seed=0) -> Frame:
    random = np.random.default_rng(seed)
    rows = list(range(len(samplers))) if rows is None else rows
    books = config.codebooks
    codes = random.integers(0, 2048, (SLOTS, books))
    read = [True] * len(rows) if read is None else read
    return Frame(
        rows=rows,
        lengths=np.arange(lengths, lengths + SLOTS, dtype=np.int32),
        read=[codes[row] if reads else None for row, reads in zip(rows, read, strict=True)],
        logits=random.normal(0, 2, (SLOTS, config.audio_vocabulary)).astype(np.float32)[rows],
        projected=random.normal(0, 1, (SLOTS, config.depth.width)).astype(np.float32)[rows],
        samplers=samplers,
        choices=CHOICES,
    )


SAMPLERS = [
    Sampler(1),
    Sampler(2, temperature=0),
    Sampler(3, temperature=0.5, top_k=5, frames=77),
    Sampler(4, depth_temperature=0.0),
    Sampler(5, top_k=2051, depth_top_k=2),
    Sampler(6, temperature=1.7),
]


def fill(language, config) -> None:
    x = np.random.default_rng(9).standard_normal((SLOTS, 12, config.backbone.width))
    language.read(x.astype(np.float32), 0, np.zeros(SLOTS, np.int32))


@pytest.mark.parametrize("read", [[True] * 6, [False] * 6, [True, False, False, True, True, False]])
def test_a_frame_is_its_single_products(language, config, weights, read):
    fill(language, config)
    stepwise = Stepwise(language, config, weights)
    frame = frame_of(config, samplers=SAMPLERS, read=read)
    expected = stepwise.frame(frame)
    assert np.array_equal(language.frame(frame), expected)
    assert len(np.unique(expected)) > 50


def test_a_row_has_the_same_codes_alone_and_in_company(language, config):
    fill(language, config)
    together = language.frame(frame_of(config, samplers=SAMPLERS))
    for rows in ([0], [5], [4, 2], [3, 0, 5]):
        fill(language, config)
        some = frame_of(config, samplers=[SAMPLERS[row] for row in rows], rows=rows)
        assert np.array_equal(language.frame(some), together[rows])


def test_a_row_that_takes_no_part_is_left_alone(language, config):
    fill(language, config)
    before = [kv[[1, 2, 4]].copy() for kv in language.kv]
    language.frame(frame_of(config, samplers=SAMPLERS[:3], rows=[0, 3, 5]))
    assert all(np.array_equal(a, kv[[1, 2, 4]]) for a, kv in zip(before, language.kv, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_their_streams(language, config, value):
    fill(language, config)
    read = [False] * len(SAMPLERS)
    frame = frame_of(config, samplers=SAMPLERS, read=read)
    expected = language.frame(frame)
    broken = replace(frame, logits=frame.logits.copy(), projected=frame.projected.copy())
    broken.logits[1, 7] = broken.projected[4, 3] = value
    found = language.frame(broken)
    assert (found[[1, 4]] == NO_CODE).all()
    others = [0, 2, 3, 5]
    assert np.array_equal(found[others], expected[others])
    assert (expected != NO_CODE).all()


def test_what_does_not_fit_is_refused_and_harms_nothing(language, config):
    fill(language, config)
    frame = frame_of(config, samplers=SAMPLERS[:2])
    expected = language.frame(frame)
    full = np.full(SLOTS, config.positions, np.int32)
    wrong = [
        replace(frame, rows=[0, SLOTS]),
        replace(frame, rows=[-1, 0]),
        replace(frame, rows=[3, 3]),
        replace(frame, lengths=full),
        replace(frame, lengths=-full),
        replace(frame, choices=0),
        replace(frame, choices=config.audio_vocabulary + 1),
        replace(frame, read=[np.full(32, config.audio_vocabulary), None]),
        replace(frame, read=[None, np.full(32, -1)]),
    ]
    for each in wrong:
        with pytest.raises((ValueError, IndexError)):
            language.frame(each)
    assert np.array_equal(language.frame(frame), expected)


def test_the_interpreter_runs_on_meanwhile(language, config):
    """Python steps are counted that another thread takes while this one makes frames."""
    fill(language, config)
    frame = frame_of(config, samplers=SAMPLERS)
    steps, stop, inside = [], threading.Event(), threading.Event()

    def count() -> None:
        while not stop.is_set():
            steps.append(inside.is_set())

    run = language._kernels.calls.frame_run
    calls = 0

    def watched(*arguments):
        nonlocal calls
        calls += 1
        inside.set()
        run(*arguments)
        inside.clear()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(language._kernels.calls, "frame_run", watched)
            while calls < 500 and sum(steps) < 1000:
                language.frame(frame)
    finally:
        stop.set()
        thread.join()
    assert sum(steps) >= 1000


def test_threads_on_one_core_find_the_same(kernels, config, weights):
    """Eight threads that have one core between them: most have lost it whenever they are needed."""
    from os import sched_getaffinity, sched_setaffinity

    before = sched_getaffinity(0)
    one = NativeLanguage(kernels, config, weights, slots=SLOTS, threads=1)
    sched_setaffinity(0, {min(before)})
    try:
        many = NativeLanguage(kernels, config, weights, slots=SLOTS, threads=8)
        for seed in range(5):
            frame = frame_of(config, samplers=SAMPLERS, seed=seed)
            fill(one, config)
            fill(many, config)
            assert np.array_equal(one.frame(frame), many.frame(frame))
        many.close()
    finally:
        sched_setaffinity(0, before)
        one.close()
