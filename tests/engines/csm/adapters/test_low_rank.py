"""An adapter that is not merged speaks as peft's does, in any company, and what no voice can carry
is refused by its name."""

from __future__ import annotations

import queue
import re
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from servers import PATIENCE_S
from tts_provider.engines.csm.adapters.low_rank import read_low_rank
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.errors import EngineFailed, StartupError

from ..conftest import make_torch_backend
from ..files.test_adapter import SEVEN, WEIGHTS, A, B, adapt, edit, edit_config, save
from ..test_parity import TEXT_IDS, generate
from .trained import DEVICES, make, train_voice

torch = lazy_import("torch")
safetensors = lazy_import("safetensors.torch")
torch_backend = lazy_import("tts_provider.engines.csm.torch.backend")

BATCH_ADAPTERS = "tts_provider.engines.csm.torch.backend.BatchAdapters"

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


def test_what_adapters_are_stacked_to_stays_in_any_order_of_streams(
    on_torch, trained, config, monkeypatch
):
    """The scheduler's order changes with every listener."""
    adapters, made = load_all(on_torch, trained, config), []
    stack = torch_backend.BatchAdapters

    def count(*arguments) -> object:
        made.append(len(arguments[0]))
        return stack(*arguments)

    monkeypatch.setattr(BATCH_ADAPTERS, count)
    slots = [on_torch.acquire(adapter) for adapter in adapters.values()]
    samplers = [Sampler(slot) for slot in slots]
    for order in permutations(range(len(slots))):
        on_torch.step([slots[row] for row in order], [samplers[row] for row in order])
    assert made == [len(slots)]
    for slot in slots:
        on_torch.release(slot)


def test_a_batch_of_adapters_fails_by_itself(on_torch, trained, config, monkeypatch):
    """It takes memory in every step, unlike the graphs of those who have none."""
    adapters = load_all(on_torch, trained, config)

    def fail(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(BATCH_ADAPTERS, fail)
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


def test_with_a_fixed_batch_adapters_have_no_company(small_folder, trained, config):
    backend = make_torch_backend(
        small_folder, precision="bfloat16", slots=len(ROWS), fixed_batch=True
    )
    adapters = load_all(backend, trained, config) | {"-": None}
    mine = [adapters[name] for name in ROWS]
    slots = [backend.acquire(adapter) for adapter in mine]
    samplers = [Sampler(row) for row in range(len(mine))]
    having = [row for row, name in enumerate(ROWS) if name != "-"]
    assert backend.groups(slots, samplers) == [[2, 6], *([row] for row in having)]
    for slot in slots:
        backend.release(slot)
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
