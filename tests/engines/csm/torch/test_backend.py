"""What the torch backend has beyond the contract that test_parity.py holds it to."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from engines.csm.conftest import make_backend, make_torch_backend
from lazy_import import lazy_import
from servers import PATIENCE_S
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed

torch = lazy_import("torch")

IDS = [128000, 5, 60, 33, 128001]


@pytest.fixture(scope="module")
def backend(small_folder):
    return make_torch_backend(small_folder, slots=5)


def speak(backend, slots, samplers, frames: int) -> np.ndarray:
    """(frames, slots, codebooks)"""
    return np.array([backend.step(slots, samplers) for _ in range(frames)])


def start(backend, number: int) -> int:
    slot = backend.acquire()
    backend.prefill(slot, text_prompt([128000, 40 + number, 128001], 32))
    return slot


def test_a_wide_top_k_changes_nothing_for_the_others(backend):
    def said(with_wide: bool) -> np.ndarray:
        slots = [start(backend, number) for number in range(3)]
        samplers = [Sampler(1), Sampler(2, 2.0, top_k=1500 if with_wide else 50), Sampler(3)]
        codes = speak(backend, slots, samplers, 8)
        for slot in slots:
            backend.release(slot)
        return codes

    without, company = said(False), said(True)
    assert np.array_equal(without[:, [0, 2]], company[:, [0, 2]])
    assert not np.array_equal(without[:, 1], company[:, 1])
    assert np.array_equal(company, said(True))


def test_a_restart_repeats_every_draw(small_folder, backend):
    other = make_torch_backend(small_folder, slots=2)
    one, two = start(backend, 1), start(other, 1)
    first = speak(backend, [one], [Sampler((9, 0, 1))], 10)
    assert np.array_equal(first, speak(other, [two], [Sampler((9, 0, 1))], 10))
    backend.release(one)
    other.release(two)


def test_a_slot_forgets_its_stream(backend):
    def said() -> np.ndarray:
        slot = start(backend, 1)
        codes = speak(backend, [slot], [Sampler(4)], 5)
        samples = backend.decode([slot], codes.swapaxes(0, 1))
        backend.release(slot)
        return codes, samples

    for first, second in zip(said(), said(), strict=True):
        assert np.array_equal(first, second)


def test_long_prompts_and_the_last_position(small_folder, tmp_path, backend):
    """Longer spans of attention, prompts of many pieces, against the other backend."""
    onnx = make_backend(small_folder, tmp_path, "float32", slots=1)
    ids = np.random.default_rng(0).integers(0, 256, backend.positions - 3)
    for prompt in (text_prompt(ids[:700], 32), text_prompt(ids, 32)):
        said = []
        for each in (onnx, backend):
            slot = each.acquire()
            each.prefill(slot, prompt)
            said.append(speak(each, [slot], [Sampler(0, temperature=0)], 3))
            each.release(slot)
        assert np.array_equal(*said)


def test_a_prefix_carries_the_answer_to_its_last_position(backend):
    one, two = start(backend, 1), backend.acquire()
    backend.load_prefix(two, backend.save_prefix(one))
    codes = speak(backend, [one, two], [Sampler(5), Sampler(5)], 10)
    assert np.array_equal(codes[:, 0], codes[:, 1])
    backend.release(one)
    backend.release(two)


def test_bfloat16_speaks(small_folder):
    """Not the same codes as float32, but codes, and the same twice."""
    backend = make_torch_backend(small_folder, precision="bfloat16", slots=2)
    slots = [start(backend, 1), start(backend, 1)]
    codes = speak(backend, slots, [Sampler(5), Sampler(5)], 6)
    assert np.array_equal(codes[:, 0], codes[:, 1])
    assert codes.max() < 2048
    assert np.isfinite(backend.decode(slots, codes.swapaxes(0, 1))).all()


def test_nothing_encodes_to_nothing(backend):
    assert backend.encode(np.zeros(0, np.float32)).shape == (0, 32)


class ShortOfMemory:
    """A backend whose memory runs out in one stream's prompt."""

    def __init__(self, backend) -> None:
        self.backend = backend

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def prefill(self, slot, prompt):
        from tts_provider.engines.csm.torch.backend import _memory_errors

        with _memory_errors():
            if 99 in prompt.tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB …")
            self.backend.prefill(slot, prompt)


def test_running_out_of_memory_ends_one_stream_only(backend):
    loop = Loop(ShortOfMemory(backend), max_ahead_s=20)
    arrived = [queue.SimpleQueue(), queue.SimpleQueue()]
    for ids, box in zip((IDS, [*IDS, 99]), arrived, strict=True):
        loop.submit(Job(text_prompt(ids, 32), 6, Sampler(1, temperature=0), box.put))
    finished: list[Finished] = []
    for box in arrived:
        while isinstance(item := box.get(timeout=PATIENCE_S), Decoded):
            pass
        finished.append(item)
    loop.close()
    assert finished[0].error is None
    assert len(finished[0].codes) == 6
    assert isinstance(finished[1].error, EngineFailed)
    assert "the GPU is out of memory" in finished[1].error.message
