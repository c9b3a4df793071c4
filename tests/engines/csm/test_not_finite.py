"""Numbers that are not finite, on every backend: whoever meets them hears of it, the
streams beside it speak on, and nothing of it stays in a slot."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from servers import PATIENCE_S
from tts_provider.engines.csm.cpu import choice
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.native.library import NoKernels, open_kernels
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed

from .conftest import make_backend, make_torch_backend

VOICE, TEXT = [128000, *range(30, 50), 128001], [128000, 7, 8, 128001]
# Tokens whose embeddings are broken, in whole and in one channel.
NAN, INFINITE, ONE_NAN, ONE_INFINITE = 200, 201, 202, 203
BROKEN = (NAN, INFINITE, ONE_NAN, ONE_INFINITE)
SLOTS, FRAMES = 3, 4


@pytest.fixture(scope="module", params=["onnx", "int8-onnx", "int8-kernels", "torch"])
def backend(request, small_folder, tmp_path_factory):
    made = build(request.param, small_folder, tmp_path_factory)
    break_tokens(made)
    return made


def build(kind, folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    if kind == "torch":
        return make_torch_backend(folder, slots=SLOTS)
    if kind == "onnx":
        return make_backend(folder, cache, "float32", slots=SLOTS)
    with pytest.MonkeyPatch.context() as patch:
        try:
            open_kernels()
        except NoKernels as reason:
            if kind == "int8-kernels":
                pytest.skip(str(reason))

        def refuse():
            raise NoKernels("the test wants none")

        if kind == "int8-onnx":
            patch.setattr(choice, "open_kernels", refuse)
        return make_backend(folder, cache, "int8", slots=SLOTS)


def break_tokens(backend) -> None:
    """What a checkpoint must not have: it is refused when it is opened."""
    if hasattr(backend, "_programs"):
        table = backend._programs.backbone._text_table
    else:
        table = backend._text_table = np.array(backend._text_table)
    table[NAN], table[INFINITE] = float("nan"), float("inf")
    table[ONE_NAN, 5], table[ONE_INFINITE, 5] = float("nan"), -float("inf")


@pytest.fixture
def loop(backend):
    running = Loop(backend, max_ahead_s=20)
    yield running
    running.close()


def begin(loop: Loop, ids: list[int], temperature: float = 0, **options) -> queue.SimpleQueue:
    arrived: queue.SimpleQueue[Decoded | Finished] = queue.SimpleQueue()
    sampler = Sampler(1, temperature)
    loop.submit(Job(text_prompt(ids, 32), FRAMES, sampler, arrived.put, **options))
    return arrived


def end(arrived: queue.SimpleQueue) -> Finished:
    while isinstance(item := arrived.get(timeout=PATIENCE_S), Decoded):
        assert np.isfinite(item.samples).all()
    return item


def check_it_failed(finished: Finished) -> None:
    assert isinstance(finished.error, EngineFailed)
    assert "its logits are not finite" in finished.error.message
    assert len(finished.codes) == 0


@pytest.mark.parametrize(
    ("token", "temperature"), [(NAN, 0), (INFINITE, 0.9), (ONE_NAN, 0.9), (ONE_INFINITE, 0)]
)
def test_it_ends_its_own_stream_and_stays_in_no_slot(loop, token, temperature):
    expected = end(begin(loop, TEXT, temperature)).codes
    assert len(expected) == FRAMES
    # A long one, so that it is read in pieces: what is broken is in the first.
    broken = [128000, token, *range(30, 30 + 70), 128001]
    everybody = [begin(loop, ids, temperature) for ids in (TEXT, broken, TEXT)]
    first, failed, last = map(end, everybody)
    check_it_failed(failed)
    assert np.array_equal(first.codes, expected)
    assert np.array_equal(last.codes, expected)
    for arrived in [begin(loop, broken) for _ in range(SLOTS)]:
        check_it_failed(end(arrived))
    for arrived in [begin(loop, TEXT, temperature) for _ in range(SLOTS)]:
        assert np.array_equal(end(arrived).codes, expected)


@pytest.mark.parametrize("token", BROKEN)
def test_a_stream_that_leaves_before_it_fails_leaves_nothing_behind(loop, token):
    expected = end(begin(loop, TEXT)).codes
    for _ in range(SLOTS):
        slot = loop._backend.acquire()  # the loop is at rest
        loop._backend.prefill(slot, text_prompt([128000, *[token] * 20], 32))
        loop._backend.release(slot)
    for arrived in [begin(loop, TEXT) for _ in range(SLOTS)]:
        assert np.array_equal(end(arrived).codes, expected)


def test_what_was_kept_of_a_voice_is_forgotten_with_it(loop):
    shared = {"prefix_key": "voice", "prefix_frames": len(VOICE) + 1}
    check_it_failed(end(begin(loop, [NAN, *VOICE, *TEXT], **shared)))
    assert not loop._prefixes
    # Another prompt under that name: as if the voice had been read wrongly that once.
    expected = end(begin(loop, [7, *VOICE, *TEXT])).codes
    assert np.array_equal(end(begin(loop, [7, *VOICE, *TEXT], **shared)).codes, expected)
    assert len(loop._prefixes) == 1


class BrokenCodec:
    """A backend whose codec breaks in one stream: the sound of its second chunk is not finite."""

    def __init__(self, backend) -> None:
        self.backend = backend
        self.broken: int | None = None
        self.chunks = 0

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def acquire(self, adapter=None):
        slot = self.backend.acquire(adapter)
        if self.broken is None:
            self.broken = slot
        return slot

    def decode(self, slots, codes):
        samples = self.backend.decode(slots, codes)
        if self.broken in slots:
            self.chunks += 1
            if self.chunks == 2:
                samples[list(slots).index(self.broken), 77] = np.nan
        return samples


def test_sound_that_is_not_finite_ends_its_own_stream(backend):
    loop = Loop(BrokenCodec(backend), max_ahead_s=20)
    broken, other = begin(loop, TEXT), begin(loop, TEXT)
    finished = end(broken)
    assert isinstance(finished.error, EngineFailed)
    assert "the codec's samples are not finite" in finished.error.message
    assert end(other).error is None
    loop.close()


def test_a_codec_s_entry_that_is_not_finite_stays_in_no_slot(backend):
    """In its keys and values, which a mask does not hide."""
    clean, slots = [], [backend.acquire() for _ in range(SLOTS)]
    codes = np.tile(np.arange(1, 33), (1, 6, 1))
    for slot in slots:
        clean.append(backend.decode([slot], codes))
    for slot in slots:
        spoil_codec(backend, slot)
        assert not np.isfinite(backend.decode([slot], codes)).all()
        backend.release(slot)
    for slot, expected in zip([backend.acquire() for _ in range(SLOTS)], clean, strict=True):
        assert np.array_equal(backend.decode([slot], codes), expected)
        backend.release(slot)


def spoil_codec(backend, slot: int) -> None:
    decoder = backend._programs.decoder if hasattr(backend, "_programs") else backend._decoder
    if hasattr(decoder, "_kv"):
        decoder._kv[:, slot] = decoder._state[slot] = float("nan")
    else:
        for state in decoder._state.values():
            state[slot] = np.nan
