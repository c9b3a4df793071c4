"""A replay says what a run says, and nothing is left to run by hand."""

from __future__ import annotations

import contextlib
import gc
from typing import ClassVar

import numpy as np
import pytest

from engines.csm.conftest import make_torch_backend
from lazy_import import lazy_import
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import StartupError

graphs = lazy_import("tts_provider.engines.csm.torch.graphs")
tape = lazy_import("engines.csm.torch.tape")
torch = lazy_import("torch")

LANE = "tts_provider.engines.csm.torch.programs.Lane"
SLOTS = 4


@pytest.fixture(scope="module")
def eager(small_folder):
    return make_torch_backend(small_folder, slots=SLOTS)


@pytest.fixture(scope="module")
def taped(small_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LANE, tape.TapeLane)
        return make_torch_backend(small_folder, slots=SLOTS)


WIDE = Sampler(9, 1.5, top_k=2048)


def speak(backend, samplers: list[Sampler], frames: int = 3) -> list[np.ndarray]:
    """Codes and sound of all streams; samplers start anew."""
    slots = [backend.acquire() for _ in samplers]
    made = []
    for number, slot in enumerate(slots):
        backend.prefill(slot, text_prompt([128000, *range(30, 40 + 20 * number), 128001], 32))
    for sampler in samplers:
        sampler.frames = 0
    for _ in range(frames):
        made.append(backend.step(slots, samplers))
        made.append(backend.decode(slots, made[-1][:, None]))
    made.append(backend.decode(slots, np.stack([made[-2]] * 7, axis=1)))
    for slot in slots:
        backend.release(slot)
    return made


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_replay_says_what_a_run_says(eager, taped, count):
    samplers = [Sampler(3), WIDE, Sampler(4, temperature=0), WIDE][:count]
    for one, other in zip(speak(eager, samplers), speak(taped, samplers), strict=True):
        assert np.array_equal(one, other)


def test_every_graph_is_replayed_by_somebody(taped):
    for count in (1, 2, 3, 4):
        speak(taped, [Sampler(number) for number in range(count)])
        speak(taped, [Sampler(number, top_k=2048) for number in range(count)])
    slot = taped.acquire()
    for length in (1, 20, 60):
        taped.prefill(slot, text_prompt(range(length), 32))
    programs = taped._programs
    for span in programs.spans:
        taped._table[slot, 1] = span - 2
        taped.step([slot], [Sampler(0)])
    taped.release(slot)
    tapes = programs.language.tapes | programs.codec.tapes
    language = (programs.speak_graphs, programs.read_graphs, programs.prompt_graphs)
    assert len(tapes) == sum(map(len, language)) + len(programs.codec_graphs)
    unused = [name for name, each in tapes.items() if not each.replays]
    # Prompts and reads of every span would be all that this test does.
    assert all("positions" in name for name in unused), unused


@pytest.mark.parametrize(
    ("stay", "top_k"),
    [((0,), 50), ((3,), 50), ((0, 1), 50), ((0, 2), 50), ((1, 2, 3), 50), ((1, 2, 3), 2048)],
)
def test_slots_side_by_side_are_read_in_place_and_say_the_same(eager, taped, stay, top_k):
    """Slots of which some rest, as streams do that are ahead: in place where the batch is no larger
    for it, gathered elsewhere, and to the bit what each says alone."""
    samplers = [Sampler(number, 1.2, top_k) for number in range(SLOTS)]
    prompts = [text_prompt([128000, *range(30, 40 + 9 * n), 128001], 32) for n in range(SLOTS)]

    def said(backend, groups) -> np.ndarray:
        slots = [backend.acquire() for _ in prompts]
        assert slots == list(range(SLOTS)), "the lowest first"
        for slot, prompt, sampler in zip(slots, prompts, samplers, strict=True):
            backend.prefill(slot, prompt)
            sampler.frames = 0
        found = [
            np.array([backend.step(group, [samplers[row] for row in group]) for _ in range(3)])
            for group in groups
        ]
        for slot in slots[1:] + slots[:1]:
            backend.release(slot)
        return np.concatenate(found, axis=1)

    alone = said(eager, [[slot] for slot in stay])
    programs = taped._programs

    def replays_in_place() -> list[int]:
        graphs = programs.read_graphs.items()
        return [tape.replays for (_, _, in_place, _), tape in graphs if in_place]

    before = replays_in_place()
    assert np.array_equal(said(taped, [list(stay)]), alone)
    in_place = replays_in_place() != before
    assert in_place == (max(stay) < graphs.fitting(programs.buckets, len(stay)))


@pytest.mark.parametrize("sampler", [Sampler(1), WIDE, Sampler(1, 0.9, 5, depth_top_k=100)])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_step_starts_nothing_by_hand(taped, sampler, rows, monkeypatch):
    slots = [taped.acquire() for _ in range(rows)]
    programs = taped._programs
    for kind in (programs.speak_graphs, programs.read_graphs, programs.codec_graphs):
        for key in kind:  # the tape would start its operators
            monkeypatch.setitem(kind, key, lambda: None)
    with tape.Copies() as copies:
        codes = taped.step(slots, [sampler] * rows)
        taped.decode(slots, np.zeros((rows, 1, 32), np.int64))
    assert len(codes) == rows
    assert copies.counts["aten.copy_.default"] == 4, "in and out, twice"
    for slot in slots:
        taped.release(slot)


def test_cudnn_s_attention_is_never_asked_and_its_switch_is_put_back(small_folder, monkeypatch):
    """Peers in the same process find the switches as they left them."""
    functional = torch.nn.functional
    seen, real = [], functional.scaled_dot_product_attention

    def spy(*arguments, **options):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return real(*arguments, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    for wanted in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(wanted)
        try:
            backend = make_torch_backend(small_folder, slots=2)
            speak(backend, [Sampler(1), WIDE], frames=1)
            backend.encode(np.zeros(5000, np.float32))
            assert torch.backends.cuda.cudnn_sdp_enabled() is wanted
        finally:
            torch.backends.cuda.enable_cudnn_sdp(before)
    assert len(seen) > 200
    assert not any(seen)


@pytest.mark.parametrize(("exact", "wanted"), [(True, "highest"), (False, "high")])
def test_a_lane_computes_as_exactly_as_it_says(exact, wanted):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    seen = []

    def look() -> None:
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    graphs.Lane(torch.device("cpu"), exact=exact).capture("a look", look)()
    assert seen == [(wanted, not exact)]
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


class FakeStream:
    """A lane's stream, so that it captures as on a GPU."""

    def synchronize(self) -> None:
        pass


class FakeGraph:
    """Notes what is asked of it."""

    made: ClassVar[list[FakeGraph]] = []

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.made.append(self)

    def capture_begin(self, pool, capture_error_mode) -> None:
        self.asked.append("begin")

    def capture_end(self) -> None:
        self.asked.append("end")

    def replay(self) -> None:
        self.asked.append("replay")


@pytest.fixture
def fake_lane(monkeypatch):
    monkeypatch.setattr("torch.cuda.CUDAGraph", FakeGraph)
    monkeypatch.setattr("torch.cuda.stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(FakeGraph, "made", [])

    def make(**options):
        lane = graphs.Lane(torch.device("cpu"), **options)
        lane._stream, lane._pool = FakeStream(), object()
        return lane

    return make


def test_a_capture_runs_once_before_and_once_in_it(fake_lane):
    runs = []
    replay = fake_lane().capture("a frame", lambda: runs.append(len(FakeGraph.made)))
    assert runs == [0, 1]
    replay()
    assert FakeGraph.made[0].asked == ["begin", "end", "replay"]


def test_without_graphs_each_call_is_a_run(fake_lane):
    runs = []
    replay = fake_lane(use_graphs=False).capture("a frame", lambda: runs.append(0))
    replay()
    replay()
    assert (len(runs), FakeGraph.made) == (3, [])


@pytest.mark.parametrize("at", [1, 2])
def test_a_capture_that_fails_is_named_with_what_to_do(fake_lane, at):
    runs = []

    def work() -> None:
        runs.append(0)
        if len(runs) == at:
            raise RuntimeError("CUDA error: operation not permitted\nand a page of advice")

    with pytest.raises(StartupError) as caught:
        fake_lane().capture("a frame of 8 streams", work)
    message = str(caught.value)
    assert message.startswith(
        "the GPU could not prepare the graph of a frame of 8 streams: CUDA error: operation not "
        "permitted; set TTS_PROVIDER_CUDA_GRAPHS=false"
    )
    assert [graph.asked for graph in FakeGraph.made] == ([["begin", "end"]] if at == 2 else [])


def test_memory_that_is_short_while_capturing_is_told_as_such(fake_lane):
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fake_lane().capture("a frame", work)


def test_no_garbage_is_collected_while_graphs_are_captured(small_folder, monkeypatch):
    seen = []
    real = tape.TapeLane.capture

    def spy(self, name, work):
        seen.append(gc.isenabled())
        return real(self, name, work)

    monkeypatch.setattr(tape.TapeLane, "capture", spy)
    monkeypatch.setattr(LANE, tape.TapeLane)
    make_torch_backend(small_folder, slots=1)
    assert len(seen) > 10
    assert not any(seen)
    assert gc.isenabled()
    with pytest.raises(KeyError), graphs.no_garbage_collection():
        raise KeyError
    assert gc.isenabled()
