"""An adapter that is not merged speaks as peft's does, in any company, and what no voice can carry
is refused by its name."""

from __future__ import annotations

import queue
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from servers import PATIENCE_S
from tts_provider.engines.csm.adapters.low_rank import read_low_rank
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import NO_CODE, Sampler
from tts_provider.errors import EngineFailed, StartupError

from ..conftest import make_torch_backend
from ..files.test_adapter import SEVEN, WEIGHTS, A, B, adapt, edit, edit_config, save
from ..test_parity import TEXT_IDS, generate
from .trained import DEVICES, make, train_voice

torch = lazy_import("torch")
safetensors = lazy_import("safetensors.torch")
tape = lazy_import("engines.csm.torch.tape")

LANE = "tts_provider.engines.csm.torch.programs.Lane"

FRAMES = 20
ROWS = "ab-bca-"
"""Which adapter the rows of a batch have, or none."""


@pytest.fixture(scope="module")
def config(small_folder):
    return open_checkpoint(small_folder).config


@pytest.fixture(scope="module")
def trained(small_model, tmp_path_factory):
    """Three adapters' folders, and the first as transformers' model."""
    folders = {name: tmp_path_factory.mktemp(name) for name in "abc"}
    adapted = train_voice(small_model, folders["a"], 1)
    train_voice(small_model, folders["b"], 2, r=9, use_rslora=True)
    only = {"layers_to_transform": [0], "layers_pattern": "layers"}
    train_voice(small_model, folders["c"], 3, target_modules=["up_proj", "k_proj"], **only)
    return folders, adapted.merge_and_unload()


@pytest.fixture(scope="module", params=DEVICES)
def backend(request, small_folder, tmp_path_factory):
    made = make(request.param, small_folder, tmp_path_factory.mktemp("weights"), len(ROWS))
    yield made
    made.close()


@pytest.fixture
def adapters(backend, trained, config):
    folders, _ = trained
    loaded = {
        name: backend.load_adapter(read_low_rank(folder, config))
        for name, folder in folders.items()
    }
    assert all(adapter.size_bytes > 0 for adapter in loaded.values())
    return loaded | {"-": None}


def test_the_audio_is_that_of_peft(small_folder, trained, config, tmp_path):
    folders, merged = trained
    expected = generate(merged, FRAMES, input_ids=torch.tensor([TEXT_IDS]))
    backend = make("torch", small_folder, tmp_path, 1)
    adapter = backend.load_adapter(read_low_rank(folders["a"], config))
    (codes,) = speak(backend, [adapter], greedy=True, frames=FRAMES)
    assert np.array_equal(codes, expected)
    slot = backend.acquire(adapter)
    audio = backend.decode([slot], codes[None])[0]
    with torch.no_grad():
        whole = merged.codec_model.decode(torch.tensor(expected.T[None])).audio_values
    assert np.abs(audio - whole[0, 0].numpy()).max() < 1e-4


def speak(backend, adapters, seeds=None, *, greedy=False, frames=5) -> np.ndarray:
    """(rows, frames, codebooks) of streams that speak together, their prompts in two pieces."""
    slots, prompt = [], text_prompt(TEXT_IDS, 32)
    for adapter in adapters:
        slots.append(backend.acquire(adapter))
        backend.prefill(slots[-1], prompt.piece(0, 3))
        backend.prefill(slots[-1], prompt.piece(3, len(prompt)))
    seeds = range(len(slots)) if seeds is None else seeds
    samplers = [Sampler(seed, temperature=0 if greedy else 0.9) for seed in seeds]
    codes = np.array([backend.step(slots, samplers) for _ in range(frames)])
    for slot in slots:
        backend.release(slot)
    return codes.swapaxes(0, 1)


def test_each_stream_says_in_company_what_it_says_alone(backend, adapters):
    mine = [adapters[name] for name in ROWS]
    together = speak(backend, mine)
    for row, adapter in enumerate(mine):
        assert np.array_equal(speak(backend, [adapter], [row])[0], together[row])
    # As if nobody had one; and each adapter says something else.
    without = speak(backend, [None] * len(mine))
    for row, name in enumerate(ROWS):
        assert np.array_equal(together[row], without[row]) == (name == "-")
    same_seed = speak(backend, [adapters[name] for name in "abc-"], [5] * 4)
    assert len({codes.tobytes() for codes in same_seed}) == 4


def test_who_joins_and_leaves_changes_nothing(backend, adapters):
    """A slot forgets its adapter; a row that moves keeps it."""

    def said(*, company: bool) -> np.ndarray:
        prompt = text_prompt(TEXT_IDS, 32)
        others = [backend.acquire(adapters[name]) for name in "ab-" if company]
        for slot in others:
            backend.prefill(slot, prompt)
        mine, samplers, codes = backend.acquire(adapters["b"]), [], []
        backend.prefill(mine, prompt)
        samplers = {slot: Sampler(slot) for slot in others} | {mine: Sampler(77)}
        for frame in range(9):
            if others and frame % 3 == 2:
                backend.release(others.pop(0))
            slots = [mine, *others]
            codes.append(backend.step(slots, [samplers[slot] for slot in slots])[0])
        for slot in (mine, *others):
            backend.release(slot)
        return np.array(codes)

    assert np.array_equal(said(company=True), said(company=False))
    assert np.array_equal(speak(backend, [None], [3]), speak(backend, [None], [3]))


@pytest.fixture(scope="module")
def on_torch(small_folder):
    return make_torch_backend(small_folder, slots=5)


def load_all(backend, trained, config) -> dict:
    folders, _ = trained
    return {
        name: backend.load_adapter(read_low_rank(folder, config))
        for name, folder in folders.items()
    }


def test_who_speaks_goes_on_while_others_are_loaded_and_forgotten(small_folder, trained, config):
    """The bank grows beside a stream; what nobody holds is room for others, and leaves nothing."""
    backend = make_torch_backend(small_folder, slots=2)
    read = {name: read_low_rank(folder, config) for name, folder in trained[0].items()}
    bank = backend._programs.adapters

    def said(*, beside: bool) -> np.ndarray:
        mine = backend.load_adapter(read["a"])
        slot, codes, sizes = backend.acquire(mine), [], []
        backend.prefill(slot, text_prompt(TEXT_IDS, 32))
        sampler = Sampler(7)
        for frame in range(6):
            if beside:
                other = backend.load_adapter(read["bc"[frame % 2]])
                company = backend.acquire(other)
                backend.step([company], [Sampler(1)])
                backend.release(company)
                del other
            codes.append(backend.step([slot], [sampler])[0])
            sizes.append(bank.bank.columns)
        backend.release(slot)
        assert sizes[1:] == sizes[1:2] * 5, "what is given back is used again"
        return np.array(codes)

    alone = said(beside=False)
    small = bank.bank.columns
    assert np.array_equal(said(beside=True), alone)
    assert bank.bank.columns == small == 16, "ranks of 4 and 9, in steps of 16"
    held = [backend.load_adapter(read["b"]) for _ in range(2)]
    assert bank.bank.columns == 32
    assert np.array_equal(said(beside=True), alone)
    assert len({adapter.number for adapter in held}) == 2
    del held
    assert len(bank._free) == bank.bank.columns, "all of it"


def test_what_is_not_finite_of_one_adapter_is_nobody_elses(on_torch, trained, config):
    huge = read_low_rank(trained[0]["a"], config)
    for factors in huge.factors.values():
        factors.a.fill(1e30)
        factors.b.fill(1e30)
    adapters = load_all(on_torch, trained, config)
    mine = [adapters["a"], on_torch.load_adapter(huge), None, adapters["b"]]
    together = speak(on_torch, mine)
    assert (together[1] == NO_CODE).all()
    for row in (0, 2, 3):
        assert np.array_equal(speak(on_torch, [mine[row]], [row])[0], together[row])


def test_numbers_that_the_precision_cannot_hold_are_refused(small_folder, trained, config):
    backend = make_torch_backend(small_folder, precision="bfloat16", slots=1)
    beyond = read_low_rank(trained[0]["a"], config)
    next(iter(beyond.factors.values())).b[0, 0] = np.finfo(np.float32).max
    with pytest.raises(StartupError, match=r"bfloat16 cannot hold; use --precision float32"):
        backend.load_adapter(beyond)
    bank = backend._programs.adapters
    assert bank.bank.columns == 0, "nothing was taken for it"
    backend.load_adapter(read_low_rank(trained[0]["b"], config))
    assert bank.bank.columns == 16


@pytest.fixture
def captured(small_folder, monkeypatch):
    """Graphs that have room for 32 ranks."""
    monkeypatch.setattr(LANE, tape.TapeLane)
    return make_torch_backend(small_folder, slots=3, adapter_ranks=32)


def test_graphs_compute_streams_with_adapters_and_without_together(
    captured, on_torch, trained, config, monkeypatch
):
    programs = captured._programs
    adapters, plain = load_all(captured, trained, config), load_all(on_torch, trained, config)
    names = "a-b"
    mine = [adapters.get(name) for name in names]
    slots = [captured.acquire(adapter) for adapter in mine]
    narrow, wide = Sampler(1), Sampler(1, top_k=900)
    assert captured.groups(slots, [narrow] * 3) == [[0, 1, 2]]
    assert captured.groups(slots, [wide, narrow, narrow]) == [[1, 2], [0]]
    for slot in slots:
        captured.release(slot)
    expected = speak(on_torch, [plain.get(name) for name in names])
    runs: list[str] = []
    with monkeypatch.context() as patch:  # a replay is no run
        for program in ("_speak", "_read", "_read_prompt"):
            patch.setattr(programs, program, lambda *sizes: runs.append("by hand"))
        assert np.array_equal(speak(captured, mine), expected)
    assert not runs
    held = [captured.load_adapter(read_low_rank(trained[0]["b"], config)) for _ in range(2)]
    assert programs.adapters.bank.columns == 48, "more than the graphs have room for"
    slots = [captured.acquire(adapter) for adapter in mine]
    assert captured.groups(slots, [narrow] * 3) == [[1], [0, 2]], "nobody waits for them"
    for slot in slots:
        captured.release(slot)
    assert np.array_equal(speak(captured, mine), expected)
    assert len(held) == 2


def test_a_batch_of_adapters_fails_by_itself(on_torch, trained, config, monkeypatch):
    """It takes memory in every step, unlike the graphs of those who have none."""
    adapters = load_all(on_torch, trained, config)

    def fail(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(on_torch._programs.adapters, "of", fail)
    loop, boxes = Loop(on_torch, max_ahead_s=20), []
    prompt = text_prompt(TEXT_IDS, 32)
    with monkeypatch.context() as patch:  # their prompts were read when there was memory
        patch.setattr(on_torch, "prefill", lambda slot, prompt: None)
        for number, adapter in enumerate((None, adapters["a"], None, adapters["b"])):
            boxes.append(queue.SimpleQueue())
            loop.submit(Job(prompt, 3, Sampler(number), boxes[-1].put, adapter=adapter))
        ends = [last(box).error for box in boxes]
    loop.close()
    assert [isinstance(end, EngineFailed) for end in ends] == [False, True] * 2
    assert ends[0] is ends[2] is None


def last(arrived: queue.SimpleQueue) -> Finished:
    while isinstance(item := arrived.get(timeout=PATIENCE_S), Decoded):
        pass
    return item


@pytest.mark.parametrize("adapter_ranks", [0, 32], ids=["without graphs", "with"])
def test_with_a_fixed_batch_company_changes_nothing_at_any_precision(
    small_folder, trained, config, adapter_ranks
):
    backend = make_torch_backend(
        small_folder,
        precision="bfloat16",
        slots=len(ROWS),
        fixed_batch=True,
        adapter_ranks=adapter_ranks,
    )
    adapters = load_all(backend, trained, config) | {"-": None}
    mine = [adapters[name] for name in ROWS]
    together = speak(backend, mine)
    for row, adapter in enumerate(mine):
        assert np.array_equal(speak(backend, [adapter], [row])[0], together[row])


def test_a_prefix_is_read_once(backend, adapters):
    one = backend.acquire(adapters["a"])
    backend.prefill(one, text_prompt(TEXT_IDS[:4], 32))
    prefix = backend.save_prefix(one)
    two = backend.acquire(adapters["a"])
    backend.load_prefix(two, prefix)
    for slot in (one, two):
        backend.prefill(slot, text_prompt(TEXT_IDS[4:], 32))
    codes = np.array([backend.step([one, two], [Sampler(1), Sampler(1)]) for _ in range(6)])
    assert np.array_equal(codes[:, 0], codes[:, 1])
    for slot in (one, two):
        backend.release(slot)


@pytest.mark.parametrize("device", DEVICES[1:])
def test_merged_the_kernels_speak_with_it_too(small_folder, trained, tmp_path, device):
    """int8 and int4 are prepared from the merged weights: near float32 with the same adapter, and
    nearer to it than the base is."""
    from ..conftest import make_backend

    folders, _ = trained
    make(device, small_folder, tmp_path, 1).close()  # skips where the kernels do not run
    logits = {}
    for precision, adapter in (("float32", folders["a"]), (device, folders["a"]), (device, None)):
        backend = make_backend(small_folder, tmp_path, precision, slots=1, adapter=adapter)
        backend.prefill(backend.acquire(), text_prompt(TEXT_IDS, 32))
        logits[precision, adapter is None] = backend._logits[0].copy()
        backend.close()
    exact, ours, base = logits["float32", False], logits[device, False], logits[device, True]
    assert np.linalg.norm(ours - exact) < 0.4 * np.linalg.norm(base - exact)


# What is refused


NARROW = {"target_modules": ["q_proj"]}
CODEC = {"target_modules": r".*codec_model.*q_proj"}
REFUSED = {
    "the codec": (
        CODEC,
        None,
        r"changes the codec's decoder_transformer\..*all voices of a server share; start a server "
        r"for it alone: --adapter /",
    ),
    "whole layers": (
        NARROW | {"modules_to_save": ["lm_head"]},
        None,
        r"replaces lm_head\.weight, which all voices .* --adapter /",
    ),
    "a head": (
        {"target_modules": ["lm_head", "q_proj"]},
        None,
        r"replaces lm_head\.weight, which all voices .* --adapter /",  # peft saves the head too
    ),
    "a table": (
        {"target_modules": ["embed_text_tokens", "q_proj"]},
        None,
        r"changes embed_text_tokens\.weight, which all voices .* --adapter /",
    ),
    "too high a rank": (NARROW | {"r": 257}, None, "with rank 257; a voice's adapter has at most"),
    "DoRA": (NARROW, lambda f: edit_config(f, use_dora=True), "uses DoRA"),
    "another width": (
        NARROW,
        edit(lambda t: t.update({A: torch.ones(4, 32)})),
        r"changes backbone_model.* by \(64, 32\), the base model has \(64, 64\)",
    ),
    "a layer too many": (
        NARROW,
        edit(lambda t: t.update({n.replace("s.0", "s.77"): t[n].clone() for n in (A, B)})),
        r"changes backbone_model\.layers\.77\..*, which the base model does not have",
    ),
    "another model": (
        NARROW,
        edit(lambda t: [t.update({n.replace("backbone_", "lm."): t.pop(n)}) for n in [*t]]),
        r"which all voices of a server share|which the base model does not have",
    ),
    "no numbers": (NARROW, edit(lambda t: t[B].fill_(float("inf"))), "values that are not numbers"),
    "cut short": (
        NARROW,
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]),
        "is cut short",
    ),
}


@pytest.mark.parametrize(("options", "change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_voice_cannot_have_is_refused_by_name(
    small_model, config, tmp_path, options, change, words
):
    adapted = adapt(small_model, **{"r": 4, "lora_alpha": 8, **options})
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name and ("codec_model" not in name or options == CODEC):
                parameter.fill_(0.1)
    save(adapted, tmp_path)
    if change is not None:
        change(tmp_path)
    with pytest.raises(StartupError) as refusal:
        read_low_rank(tmp_path, config)
    assert re.search(words, str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_training_never_reached_is_left_out(small_model, config, tmp_path):
    """The notebook names its modules by their last part, and so the codec's too, whose B stay zero:
    the codec is not trained."""
    train_voice(small_model, tmp_path, 1, target_modules=SEVEN)
    names = safetensors.load_file(tmp_path / WEIGHTS)
    assert any("codec_model" in name for name in names)
    found = read_low_rank(tmp_path, config).factors
    layers = config.backbone.layers + config.depth.layers
    assert len(found) == 7 * layers


def test_the_scale_is_in_b(trained, config, tmp_path):
    folder = Path(shutil.copytree(trained[0]["a"], tmp_path / "adapter"))
    before = read_low_rank(folder, config).factors
    edit_config(folder, lora_alpha=16)
    for key, factors in read_low_rank(folder, config).factors.items():
        assert np.array_equal(factors.a, before[key].a)
        assert np.allclose(factors.b, 2 * before[key].b)
