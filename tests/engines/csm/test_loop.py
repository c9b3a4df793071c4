"""The loop with the small backend: prefixes are read once, and jobs end as they should."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from servers import PATIENCE_S
from tts_provider.engines.csm.loop import Audio, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed

VOICE, TEXT = [128000, *range(30, 60), 128001], [128000, 7, 8, 128001]


class Counting:
    """A backend that notes how many prompt frames it reads."""

    def __init__(self, backend) -> None:
        self.backend = backend
        self.read_frames: list[int] = []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def prefill(self, slot, prompt):
        self.read_frames.append(len(prompt))
        self.backend.prefill(slot, prompt)


@pytest.fixture
def loop(small_backend):
    running = Loop(Counting(small_backend), max_ahead_s=20)
    yield running
    running.close()


def run(loop: Loop, **options) -> tuple[np.ndarray, Finished]:
    arrived: queue.SimpleQueue[Audio | Finished] = queue.SimpleQueue()
    prompt = text_prompt([*VOICE, *TEXT], 32)
    loop.submit(Job(prompt, 12, Sampler(1, temperature=0), arrived.put, **options))
    pieces = []
    while isinstance(item := arrived.get(timeout=PATIENCE_S), Audio):
        pieces.append(item)
    assert sum(piece.frames for piece in pieces) == len(item.codes)
    return np.concatenate([piece.samples for piece in pieces]), item


def test_a_voice_prompt_is_read_once_and_copied_afterwards(loop):
    reads = loop._backend.read_frames
    plain, _ = run(loop)
    assert sum(reads) == len(VOICE) + len(TEXT)
    reads.clear()
    shared = {"prefix_key": "voice", "prefix_frames": len(VOICE)}
    first, _ = run(loop, **shared)
    assert reads == [len(VOICE), len(TEXT)]
    reads.clear()
    second, _ = run(loop, **shared)
    assert reads == [len(TEXT)]
    assert np.array_equal(plain, first)
    assert np.array_equal(plain, second)


def test_chunks_ramp_and_the_codes_are_all_there(loop):
    samples, finished = run(loop)
    assert finished.codes.shape == (12, 32)
    assert len(samples) == 12 * 1920


def test_closing_fails_what_is_left(small_backend):
    loop = Loop(small_backend, max_ahead_s=20)
    arrived: queue.SimpleQueue[Audio | Finished] = queue.SimpleQueue()
    loop.submit(Job(text_prompt(TEXT, 32), 10_000, Sampler(1), arrived.put))
    assert isinstance(arrived.get(timeout=PATIENCE_S), Audio)
    loop.close()
    while isinstance(item := arrived.get(timeout=PATIENCE_S), Audio):
        pass
    assert isinstance(item.error, EngineFailed)
