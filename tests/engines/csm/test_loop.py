"""The loop with the small backend: prefixes are read once, jobs end as they should, and what fails
ends no more than it has to."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from servers import PATIENCE_S
from tts_provider.engines.csm.backend import DeviceLost, OutOfMemory
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed

VOICE, TEXT = [128000, *range(30, 60), 128001], [128000, 7, 8, 128001]
SHARED = {"prefix_key": "voice", "prefix_frames": len(VOICE)}
FRAMES = 8


class Faulty:
    """A backend that notes how many prompt frames it reads, and what it is asked of which slot; it
    fails where `fail` is told the name of what is asked, and raises."""

    def __init__(self, backend) -> None:
        self.backend = backend
        self.read_frames: list[int] = []
        self.held: set[int] = set()
        self.fail: Callable[[str], None] = lambda name: None

    def __getattr__(self, name):
        found = getattr(self.backend, name)
        if not callable(found):
            return found

        def call(*arguments):
            self.fail(name)
            return found(*arguments)

        return call

    def acquire(self, adapter=None):
        self.fail("acquire")
        slot = self.backend.acquire(adapter)
        self.held.add(slot)
        return slot

    def release(self, slot):
        self.fail("release")
        self.backend.release(slot)
        self.held.remove(slot)

    def prefill(self, slot, prompt):
        self.fail("prefill")
        self.read_frames.append(len(prompt))
        self.backend.prefill(slot, prompt)

    @contextlib.contextmanager
    def failing(self, where: str, times: int = 1_000_000, error: BaseException | None = None):
        """Each call of `where` raises, until it has done so often enough."""
        left = times

        def fail(name: str) -> None:
            nonlocal left
            if name == where and left:
                left -= 1
                raise error or RuntimeError(f"a broken {where}")

        self.fail = fail
        try:
            yield
        finally:
            self.fail = lambda name: None


@pytest.fixture
def backend(small_backend):
    faulty = Faulty(small_backend)
    yield faulty
    for slot in faulty.held:  # the session's backend serves the next test too
        small_backend.release(slot)


@pytest.fixture
def loop(backend):
    running = Loop(backend, max_ahead_s=20)
    yield running
    running.close()


class Listener:
    """A job and what it publishes."""

    def __init__(self, loop: Loop, frames: int = FRAMES, **options) -> None:
        self.arrived: queue.SimpleQueue[Decoded | Finished] = queue.SimpleQueue()
        self.fail_at: type | None = None
        prompt = text_prompt([*VOICE, *TEXT], 32)
        self.job = Job(prompt, frames, Sampler(1, temperature=0), self.publish, **options)
        loop.submit(self.job)

    def publish(self, item: Decoded | Finished) -> None:
        if self.fail_at is not None and isinstance(item, self.fail_at):
            raise RuntimeError("a broken listener")
        self.arrived.put(item)

    def next(self) -> Decoded | Finished:
        return self.arrived.get(timeout=PATIENCE_S)

    def wait(self) -> tuple[np.ndarray, Finished]:
        """All samples, and the end."""
        pieces = []
        while isinstance(item := self.next(), Decoded):
            pieces.append(item.samples)
        return np.concatenate([np.zeros(0, np.float32), *pieces]), item


def run(loop: Loop, **options) -> tuple[np.ndarray, Finished]:
    samples, finished = Listener(loop, **options).wait()
    assert len(samples) == 1920 * len(finished.codes)
    return samples, finished


def test_a_voice_prompt_is_read_once_and_copied_afterwards(loop, backend):
    reads = backend.read_frames
    plain, _ = run(loop)
    assert sum(reads) == len(VOICE) + len(TEXT)
    reads.clear()
    first, _ = run(loop, **SHARED)
    assert reads == [len(VOICE), len(TEXT)]
    reads.clear()
    second, _ = run(loop, **SHARED)
    assert reads == [len(TEXT)]
    assert np.array_equal(plain, first)
    assert np.array_equal(plain, second)


def test_a_burst_in_one_voice_reads_it_once(loop, backend):
    """More requests at once than there are slots: none has been read when the first ones start."""
    listeners = [Listener(loop, **SHARED) for _ in range(backend.slots + 2)]
    said = [listener.wait()[1].codes for listener in listeners]
    assert sum(backend.read_frames) == len(VOICE) + len(TEXT) * len(listeners)
    assert all(np.array_equal(codes, said[0]) for codes in said)


def test_prompts_are_read_in_pieces_that_fit(loop, backend, monkeypatch):
    """Where a backend cuts freely, and somebody has heard something already."""
    backend.backend.cuts_freely = True
    monkeypatch.setattr("tts_provider.engines.csm.scheduler.FEWEST_PIECE_FRAMES", 3)
    try:
        speaking = Listener(loop, frames=200)
        speaking.next()
        loop._piece._read_s = 1e6
        before = len(backend.read_frames)
        Listener(loop, frames=2).wait()
        loop.cancel(speaking.job)
        assert backend.read_frames[before : before + 4] == [3, 3, 3, 3]
    finally:
        del backend.backend.cuts_freely


def test_chunks_ramp_and_the_codes_are_all_there(loop):
    samples, finished = run(loop)
    assert finished.codes.shape == (FRAMES, 32)
    assert len(samples) == FRAMES * 1920


def test_closing_fails_what_is_left_and_refuses_what_comes(loop):
    speaking = Listener(loop, 10_000)
    assert isinstance(speaking.next(), Decoded)
    loop.close()
    _, finished = speaking.wait()
    assert isinstance(finished.error, EngineFailed)
    assert str(loop.problem) == "the server is stopping"
    with pytest.raises(EngineFailed, match="the server is stopping"):
        Listener(loop)
    loop.close()


@pytest.mark.parametrize("where", ["acquire", "load_prefix", "prefill", "step", "decode"])
def test_what_fails_for_a_stream_ends_it_and_no_slot_is_lost(loop, backend, where):
    expected, _ = run(loop)
    run(loop, **SHARED)
    with backend.failing(where):
        # One more than there are slots: each failing stream gives its own to the next.
        for each in [Listener(loop, **SHARED) for _ in range(backend.slots + 1)]:
            _, finished = each.wait()
            assert isinstance(finished.error, EngineFailed), where
            assert finished.error.message == f"the model failed: a broken {where}"
            if where == "load_prefix":
                break  # those behind it read the voice anew
    check_all_can_speak(loop, backend, expected)


def check_all_can_speak(loop, backend, expected) -> None:
    """As many at once as there are slots, and one more."""
    everybody = [Listener(loop, **SHARED) for _ in range(backend.slots + 1)]
    for each in everybody:
        samples, finished = each.wait()
        assert finished.error is None
        # In company PyTorch's convolutions round otherwise.
        assert np.allclose(samples, expected, atol=1e-4)
    assert not backend.held
    assert loop.problem is None


def test_a_saved_prompt_that_cannot_be_loaded_is_read_anew(loop, backend):
    expected, _ = run(loop, **SHARED)
    with backend.failing("load_prefix"):
        _, finished = Listener(loop, **SHARED).wait()
        assert isinstance(finished.error, EngineFailed)
        samples, _ = run(loop, **SHARED)
    assert np.array_equal(samples, expected)


def test_a_prompt_that_cannot_be_kept_costs_its_own_job_nothing(loop, backend):
    reads = backend.read_frames
    with backend.failing("save_prefix"):
        expected, finished = run(loop, **SHARED)
        assert finished.error is None
        assert np.array_equal(run(loop, **SHARED)[0], expected)
    assert reads == 2 * [len(VOICE), len(TEXT)]
    assert np.array_equal(run(loop, **SHARED)[0], expected)
    reads.clear()
    assert np.array_equal(run(loop, **SHARED)[0], expected)
    assert reads == [len(TEXT)], "it was kept when it could be"


def test_kept_prompts_make_room_for_a_new_one(loop, backend):
    run(loop, **SHARED)
    with backend.failing("save_prefix", times=1, error=OutOfMemory("no memory")):
        run(loop, **{**SHARED, "prefix_key": "other"})
    assert list(loop._prefixes) == ["other"]
    loop.forget_prefixes()
    assert not loop._prefixes


@pytest.mark.parametrize("where", ["acquire", "load_prefix", "prefill", "save_prefix", "decode"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_device_that_is_lost_ends_everything_at_once(backend, where, beside):
    """Whoever finds out: a stream's own step, or somebody beside the loop."""
    lost = threading.Event()
    loop = Loop(backend, 20, lost.set)
    if where == "load_prefix":
        run(loop, **SHARED)
    everybody = [Listener(loop, 10_000) for _ in range(backend.slots + 2)]
    everybody[0].next()
    error = DeviceLost("the GPU stopped working: CUDA error: unspecified launch failure")
    with backend.failing(where, error=error):
        if beside:
            loop.lose(error)
        elif where in ("acquire", "load_prefix", "save_prefix"):
            loop.cancel(everybody[0].job)  # a slot for one more, which meets it
            everybody += [Listener(loop, **SHARED) for _ in range(2)]
            loop.cancel(everybody[1].job)
            loop.cancel(everybody[2].job)
            loop.cancel(everybody[3].job)
        assert lost.wait(PATIENCE_S)
    for each in everybody[4:]:
        _, finished = each.wait()
        assert finished.error.message == f"{error}; the server must be started again"
    with pytest.raises(EngineFailed, match="the GPU stopped working"):
        Listener(loop)
    loop.forget_prefixes()
    loop.close()


@pytest.mark.parametrize("where", [Decoded, Finished])
def test_a_listener_that_fails_ends_its_own_stream_only(loop, backend, where):
    expected, _ = run(loop, frames=30)
    others = [Listener(loop, 30) for _ in range(2)]
    broken = Listener(loop, 30)
    broken.fail_at = where
    others.append(Listener(loop, 30))
    for each in others:
        samples, finished = each.wait()
        assert finished.error is None
        assert np.allclose(samples, expected, atol=1e-4)
    if where is Decoded:
        assert isinstance(broken.wait()[1].error, EngineFailed)
    check_all_can_speak(loop, backend, run(loop)[0])


def test_a_release_that_fails_is_tried_again(loop, backend):
    """Fewer streams speak meanwhile, and nobody waits for a slot that there is not."""
    expected, _ = run(loop)
    with backend.failing("release", times=backend.slots):
        for each in [Listener(loop, **SHARED) for _ in range(2 * backend.slots)]:
            samples, finished = each.wait()
            assert finished.error is None
            assert np.allclose(samples, expected, atol=1e-4)
    run(loop)  # a turn after those failures
    check_all_can_speak(loop, backend, expected)


def test_a_cancelled_stream_whose_release_fails_holds_up_nobody(loop, backend):
    expected, _ = run(loop)
    leaving = Listener(loop, 10_000)
    leaving.next()
    with backend.failing("release", times=1):
        loop.cancel(leaving.job)
        leaving.wait()
        samples, _ = run(loop)
    assert np.array_equal(samples, expected)
    check_all_can_speak(loop, backend, expected)


def test_when_no_slot_can_be_released_everybody_hears_of_it(loop, backend):
    with backend.failing("release"):
        everybody = [Listener(loop) for _ in range(3 * backend.slots)]
        ends = [each.wait()[1] for each in everybody]
    assert all(end.error is None for end in ends[: backend.slots])
    for end in ends[backend.slots :]:
        assert isinstance(end.error, EngineFailed)
    check_it_has_ended(loop, "a broken release")


def check_it_has_ended(loop, reason: str) -> None:
    assert isinstance(loop.problem, EngineFailed)
    sentence = f"the model's loop ended ({reason}); restart the server"
    assert loop.problem.message == sentence
    with pytest.raises(EngineFailed) as refused:
        Listener(loop)
    assert refused.value.message == sentence
    assert refused.value is not loop.problem, "each has an error of its own"
    loop.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_no_guard_holds_ends_the_loop_and_is_told_to_all(loop, backend, error):
    everybody = [Listener(loop, 10_000) for _ in range(backend.slots + 2)]
    for each in everybody[: backend.slots]:
        each.next()
    with backend.failing("step", error=error("enough")):
        for each in everybody:
            assert isinstance(each.wait()[1].error, EngineFailed)
    check_it_has_ended(loop, "enough")


@pytest.mark.parametrize("method", ["plan", "add", "remove"])
def test_a_schedule_that_fails_ends_the_loop_and_is_told_to_all(loop, monkeypatch, method):
    everybody = [Listener(loop, 10_000) for _ in range(3)]
    for each in everybody:
        each.next()

    def fail(*arguments):
        raise AssertionError("out of order")

    monkeypatch.setattr(loop._scheduler, method, fail)
    if method == "remove":
        loop.cancel(everybody[0].job)
    else:
        everybody.append(Listener(loop))
    for each in everybody:
        _, finished = each.wait()
        assert isinstance(finished.error, EngineFailed) or each is everybody[0]
    check_it_has_ended(loop, "out of order")


def test_whoever_submits_while_the_loop_ends_is_told(backend):
    """Refused, or answered: nobody waits."""
    for _ in range(20):
        loop = Loop(backend, max_ahead_s=20)
        first = Listener(loop, 10_000)
        loop._commands.put(None)
        told = [first]
        with contextlib.suppress(EngineFailed):
            for _ in range(10_000):
                told.append(Listener(loop, 10_000))
        for each in told:
            assert isinstance(each.wait()[1].error, EngineFailed)
        loop.close()
