"""What the torch backend has beyond the contract that test_parity.py holds it to."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from engines.csm.conftest import make_backend, make_torch_backend
from lazy_import import lazy_import
from servers import PATIENCE_S
from tts_provider.engines.csm.backend import DeviceLost, OutOfMemory
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.torch.device import GIB
from tts_provider.errors import EngineFailed, StartupError

tape = lazy_import("engines.csm.torch.tape")
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


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_with_a_fixed_batch_company_changes_nothing_at_any_precision(small_folder, precision):
    backend = make_torch_backend(small_folder, precision=precision, slots=4, fixed_batch=True)
    programs = backend._programs
    for graphs in (programs.speak_graphs, programs.codec_graphs):
        assert {rows for rows, *_ in graphs} == {4}
    assert list(programs.read_graphs) == [(4, backend.positions, False, False)]
    for sampler in ({}, {"top_k": 2048}):
        said = []
        for company in (0, 1, 3):
            slots = [start(backend, 1), *(start(backend, 7 + n) for n in range(company))]
            samplers = [Sampler(5, **sampler), *(Sampler(n) for n in range(company))]
            said.append(speak(backend, slots, samplers, 8)[:, 0])
            for slot in slots:
                backend.release(slot)
        assert np.array_equal(said[0], said[1])
        assert np.array_equal(said[0], said[2])


@pytest.fixture
def counted(small_folder, monkeypatch):
    monkeypatch.setattr("tts_provider.engines.csm.torch.backend.TorchBackend", tape.Counted)
    monkeypatch.setattr(tape.Counted, "tried", [])

    def make(slots: int, free: list[int], too_many: int = 10**9, **options):
        monkeypatch.setattr(tape.Counted, "free", list(free))
        monkeypatch.setattr(tape.Counted, "too_many", too_many)
        return make_torch_backend(small_folder, slots=slots, **options)

    return make


PLENTY = 100 * GIB


def test_slots_are_taken_when_everything_has_run(counted, caplog):
    assert counted(6, [PLENTY]).slots == 6
    assert tape.Counted.tried == [6]
    plan = small_plan(counted)
    backend = counted(6, [PLENTY, PLENTY, GIB + 3 * plan.stream + 5])
    assert backend.slots == 2
    assert "memory is enough for 2 streams, not for --max-streams 6" in caplog.text
    slots = [start(backend, n) for n in range(2)]
    assert speak(backend, slots, [Sampler(1)] * 2, 2).shape == (2, 2, 32)


def test_adapters_that_voices_have_are_in_the_plan_where_there_is_room(counted, caplog):
    plan = small_plan(counted, adapter_ranks=32)
    alone = small_plan(counted)
    column = plan.adapters // 32
    assert plan.adapters == 32 * column > 0 == alone.adapters
    assert (plan.weights, plan.stream, plan.work) == (alone.weights, alone.stream, alone.work)
    limited = small_plan(counted, adapter_ranks=32, most_adapter_bytes=5 * column + 1)
    assert limited.adapters == 5 * column
    need = next(free for free in range(0, PLENTY, 2**20) if alone.streams(free) > 0)
    huge = {"adapter_ranks": 32 + 2**28 // column, "most_adapter_bytes": PLENTY}
    backend = counted(1, [need, need, PLENTY], **huge)
    assert "no memory is reserved for the adapters of voices" in caplog.text
    assert backend._programs.adapters.bank.columns == 0


def small_plan(counted, **options):
    seen = []
    real = tape.Counted._plan

    def look(self, plan, wanted):
        seen.append(plan)
        return real(self, plan, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tape.Counted, "_plan", look)
        counted(1, [PLENTY], **options)
    return seen[0]


def test_a_trial_that_takes_too_much_is_made_with_fewer(counted):
    tape.Counted.tried.clear()
    assert counted(6, [PLENTY], too_many=2).slots == 2
    assert tape.Counted.tried == [6, 3, 2]
    with pytest.raises(StartupError, match="the GPU's memory ran out while the model was loaded"):
        counted(6, [PLENTY], too_many=0)


def test_a_gpu_that_is_too_small_is_told_before_and_after(counted):
    with pytest.raises(
        StartupError, match=r"the model's weights do not fit .* or use --device cpu"
    ):
        counted(6, [GIB])
    assert not tape.Counted.tried
    with pytest.raises(StartupError, match=r"no stream fits .* with everything loaded"):
        counted(6, [PLENTY, PLENTY, GIB])


def test_nothing_encodes_to_nothing(backend):
    assert backend.encode(np.zeros(0, np.float32)).shape == (0, 32)


class ShortOfMemory:
    """A backend whose memory runs out in one stream's prompt."""

    def __init__(self, backend) -> None:
        self.backend = backend

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def prefill(self, slot, prompt):
        with self.backend._faults():
            if 99 in prompt.tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB …")
            self.backend.prefill(slot, prompt)


CUDA_ERROR = """CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/cuda-runtime-api for more.
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below
might be incorrect. For debugging consider passing CUDA_LAUNCH_BLOCKING=1"""


def fail(*_arguments, **_options):
    raise torch.AcceleratorError(CUDA_ERROR)


CALLS = {
    "acquire": lambda b, slot: b.acquire(),
    "prefill": lambda b, slot: b.prefill(slot, text_prompt(IDS, 32)),
    "step": lambda b, slot: b.step([slot], [Sampler(1)]),
    "wide step": lambda b, slot: b.step([slot], [Sampler(1, top_k=900)]),
    "decode": lambda b, slot: b.decode([slot], np.zeros((1, 2, 32), np.int64)),
    "encode": lambda b, slot: b.encode(np.zeros(5000, np.float32)),
    "save_prefix": lambda b, slot: b.save_prefix(slot),
    "load_prefix": lambda b, slot: b.load_prefix(slot, b.save_prefix(slot)),
}


@pytest.fixture
def broken(backend, monkeypatch):
    """Whatever it asks of the GPU ends with CUDA's error."""
    slot = start(backend, 1)
    for method in ("run", "active"):
        monkeypatch.setattr(f"tts_provider.engines.csm.torch.graphs.Lane.{method}", fail)
    yield backend, slot
    monkeypatch.undo()
    backend.release(slot)


@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_the_gpu_is_one_line_and_takes_no_slot(broken, call):
    backend, slot = broken
    free = list(backend._free)
    with pytest.raises(EngineFailed) as caught:
        CALLS[call](backend, slot)
    assert caught.value.message == (
        "the GPU failed: CUDA error: an illegal memory access was encountered"
    )
    assert backend._free == free


@pytest.mark.parametrize("call", CALLS)
def test_a_gpu_that_does_not_come_back_is_lost(broken, monkeypatch, call):
    backend, slot = broken
    monkeypatch.setattr(backend._programs, "synchronize", fail)
    free = list(backend._free)
    with pytest.raises(DeviceLost) as caught:
        CALLS[call](backend, slot)
    assert str(caught.value) == (
        "the GPU stopped working: CUDA error: an illegal memory access was encountered"
    )
    assert backend._free == free
    monkeypatch.undo()
    backend._is_alive()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.\nOf the allocated …"),
        ("AcceleratorError", "CUDA error: out of memory\nCompile with …"),
        ("AcceleratorError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    ],
)
def test_memory_that_is_short_is_told_from_a_gpu_that_is_lost(backend, kind, text):
    with pytest.raises(OutOfMemory, match="the GPU is out of memory; try again"):
        with backend._faults():
            raise getattr(torch, kind)(text)


def test_a_reset_that_fails_leaks_no_slot(backend, monkeypatch):
    """Three times, and then everybody speaks."""
    loop = Loop(backend, max_ahead_s=20)
    with monkeypatch.context() as patch:
        patch.setattr(backend._programs.decoder, "reset", fail)
        for _ in range(backend.slots + 3):
            assert "the GPU failed: CUDA error" in finish(begin(loop)).error.message
    boxes = [begin(loop) for _ in range(backend.slots + 1)]
    assert [finish(box).error for box in boxes] == [None] * len(boxes)
    loop.close()
    assert len(backend._free) == backend.slots


def begin(loop: Loop, sampler: Sampler | None = None) -> queue.SimpleQueue:
    arrived: queue.SimpleQueue = queue.SimpleQueue()
    loop.submit(Job(text_prompt(IDS, 32), 3, sampler or Sampler(1), arrived.put))
    return arrived


def finish(arrived: queue.SimpleQueue) -> Finished:
    while isinstance(item := arrived.get(timeout=PATIENCE_S), Decoded):
        pass
    return item


def test_long_top_ks_fail_by_themselves_group_by_group(backend, monkeypatch):
    """One narrow stream, and four wide ones, of which a step takes two at a time."""
    programs = backend._programs
    monkeypatch.setattr(programs, "wide_buckets", [1, 2])
    wide = [Sampler(number, top_k=2048) for number in range(4)]
    assert backend.groups(range(5), [*wide, Sampler(9)]) == [[4], [0, 1], [2, 3]]
    greedy = Sampler(1, temperature=0, top_k=900)
    assert backend.groups([0], [greedy]) == [[0]], "greedy is narrow"
    speak, calls = programs.speak_graphs[2, True, False], []

    def fail_once() -> None:
        calls.append(0)
        if len(calls) == 2:
            fail()
        speak()

    monkeypatch.setitem(programs.speak_graphs, (2, True, False), fail_once)
    loop = Loop(backend, max_ahead_s=20)
    boxes = [begin(loop, sampler) for sampler in (*wide, Sampler(9))]
    ends = [finish(box).error for box in boxes]
    loop.close()
    assert ends[4] is None
    assert sum(isinstance(end, EngineFailed) for end in ends[:4]) in (1, 2), "its group's"
    assert sum(end is None for end in ends) >= 3
    assert len(backend._free) == backend.slots


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
