"""LoRA adapters as peft writes them: merged they are the weights, and the audio, that peft has."""

from __future__ import annotations

import copy
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from tts_provider.config import Settings
from tts_provider.engines.csm.build import build
from tts_provider.engines.csm.cpu.weights import load_weights, prepared_key
from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint, read_all
from tts_provider.engines.csm.files.names import plain_name
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.errors import StartupError

from ..checkpoints import save_original_layout
from ..conftest import make_backend, make_torch_backend
from ..test_parity import TEXT_IDS, generate, speak

peft = lazy_import("peft")
safetensors = lazy_import("safetensors.torch")
torch = lazy_import("torch")

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FRAMES = 12


def train(model, folder: Path, **options) -> peft.PeftModel:
    """An adapter with random numbers in both halves, saved as a notebook saves it."""
    torch.manual_seed(1)
    adapted = adapt(model, **{"r": 4, "lora_alpha": 8, "target_modules": SEVEN, **options})
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
            elif "modules_to_save" in name:
                parameter.mul_(1.25)
    save(adapted, folder)
    return adapted


def save(adapted: peft.PeftModel, folder: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        adapted.save_pretrained(folder)


def adapt(model, **options) -> peft.PeftModel:
    # peft warns of what is asked for here, and asks transformers by a name of old.
    with warnings.catch_warnings(action="ignore"):
        return peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**options)).eval()


@pytest.fixture(scope="module")
def notebook(small_model, tmp_path_factory):
    """The adapter of the well-known notebook, and what it comes to in transformers."""
    folder = tmp_path_factory.mktemp("adapter")
    merged = train(small_model, folder).merge_and_unload()
    return folder, merged


KINDS = {
    "alpha and rank": {"lora_alpha": 3},
    "rsLoRA": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 2, r"backbone_model\.layers\.1\.mlp\.up_proj": 3},
        "alpha_pattern": {"down_proj": 5, r"^depth_decoder.model.layers.0.self_attn.k_proj": 1},
    },
    "fan_in_fan_out, which linear layers do not have": {"fan_in_fan_out": True},
    "whole layers": {"modules_to_save": ["lm_head", "embed_text_tokens"]},
    "one table of two": {"target_modules": ["embed_audio_tokens", "q_proj"]},
    "the codec's": {"target_modules": r".*codec_model.*(q|k|v|o)_proj"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_merged_weights_are_those_of_peft(small_model, small_folder, tmp_path, options):
    adapted = train(small_model, tmp_path, **options)
    base, ours = open_checkpoint(small_folder), open_checkpoint(small_folder, tmp_path)
    theirs = {plain_name(n): p for n, p in adapted.merge_and_unload().state_dict().items()}
    changed = 0
    for name, tensor in {
        **ours.tensors,
        **{f"codec_model.{name}": tensor for name, tensor in ours.codec.items()},
    }.items():
        if name == "depth_decoder.model.embed_tokens.weight":
            continue  # peft merges into the one table of both; alone it changes the backbone's
        assert np.allclose(tensor.read(), theirs[name].numpy(), atol=1e-6), name
        before = base.tensors.get(name) or base.codec[name.removeprefix("codec_model.")]
        changed += not np.array_equal(tensor.read(), before.read())
    assert changed >= 2


@pytest.mark.parametrize("make", [make_backend, make_torch_backend], ids=["cpu", "torch"])
def test_the_audio_is_that_of_peft(small_folder, notebook, tmp_path, make):
    folder, merged = notebook
    expected = generate(merged, FRAMES, input_ids=torch.tensor([TEXT_IDS]))
    if make is make_backend:
        backend = make_backend(small_folder, tmp_path, "float32", slots=1, adapter=folder)
    else:
        backend = make_torch_backend(small_folder, slots=1, adapter=folder)
    codes = speak(backend, text_prompt(TEXT_IDS, 32), FRAMES)
    assert np.array_equal(codes, expected)
    slot = backend.acquire()
    audio = backend.decode([slot], codes[None])[0]
    with torch.no_grad():
        whole = merged.codec_model.decode(torch.tensor(expected.T[None])).audio_values
    assert np.abs(audio - whole[0, 0].numpy()).max() < 1e-4
    backend.close()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantized_weights_are_made_from_the_merged_ones(
    small_folder, notebook, tmp_path, precision
):
    folder, merged = notebook
    saved = tmp_path / "merged"
    merged.save_pretrained(saved)
    ours = load_weights(open_checkpoint(small_folder, folder), precision, tmp_path / "a", print)
    theirs = load_weights(open_checkpoint(saved), precision, tmp_path / "b", print)
    plain = load_weights(open_checkpoint(small_folder), precision, tmp_path / "a", print)
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 2, "the key has the adapter"
    different = 0
    for name, codes in theirs.items():
        if name.endswith(".codes"):
            # Summed in another order than peft's, a weight may round to the next code.
            unequal = np.mean(ours[name] != codes)
            assert unequal < 0.01, name
            different += not np.array_equal(plain[name], codes)
    assert different > 10


def test_a_changed_adapter_has_another_cache(small_folder, notebook, tmp_path):
    folder = Path(shutil.copytree(notebook[0], tmp_path / "adapter"))
    load_weights(open_checkpoint(small_folder, folder), "int8", tmp_path / "cache", print)
    edit_config(folder, lora_alpha=9)
    load_weights(open_checkpoint(small_folder, folder), "int8", tmp_path / "cache", print)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


async def test_settings_lead_to_the_merged_model(small_folder, notebook, tmp_path):
    adapter, _ = notebook
    settings = Settings(
        _env_file=None,
        model_path=small_folder,
        adapter=adapter,
        device="cpu",
        precision="int8",
        max_streams=1,
        data_dir=tmp_path,
    )
    engine = build(settings, print)
    assert engine.model == f"{small_folder.name}+{adapter.name}"
    await engine.load(print)
    await engine.close()
    merged = prepared_key(open_checkpoint(small_folder, adapter), "int8")
    assert [path.stem for path in (tmp_path / "weights").glob("*.safetensors")] == [merged]
    assert merged != prepared_key(open_checkpoint(small_folder), "int8")


def test_a_codec_that_lies_elsewhere_is_adapted_too(small_model, tmp_path):
    adapted = train(small_model, tmp_path / "adapter", target_modules=r".*codec_model.*q_proj")
    base = save_original_layout(small_model, tmp_path / "base", pickle=False)
    (base / "config.json").write_text(
        json.dumps(json.loads((base / "config.json").read_text()) | {"codec_config": None})
    )
    small_model.codec_model.save_pretrained(tmp_path / "mimi")
    checkpoint = open_checkpoint(base, tmp_path / "adapter")
    _, codec = find_codec(checkpoint, tmp_path / "mimi")
    theirs = {plain_name(n): p for n, p in adapted.merge_and_unload().state_dict().items()}
    for name, array in read_all(codec).items():
        assert np.allclose(array, theirs[f"codec_model.{name}"].numpy(), atol=1e-6), name


def test_an_adapter_of_the_original_layout_changes_the_same_rows(small_model, notebook, tmp_path):
    folder, merged = notebook
    base = save_original_layout(small_model, tmp_path, pickle=False)
    name = "backbone_model.layers.0.self_attn.q_proj.weight"
    small_model_state = merged.state_dict()
    codec_free = tmp_path / "adapter"
    shutil.copytree(folder, codec_free)
    keep = {
        n: t
        for n, t in safetensors.load_file(codec_free / WEIGHTS).items()
        if "codec_model" not in n
    }
    safetensors.save_file(keep, codec_free / WEIGHTS)
    read = open_checkpoint(base, codec_free).read(name)
    assert np.allclose(read, small_model_state[name].numpy(), atol=1e-6)


def test_an_adapter_that_was_never_trained_is_said(small_model, small_folder, tmp_path, caplog):
    adapt(small_model, target_modules=SEVEN).save_pretrained(tmp_path)
    open_checkpoint(small_folder, tmp_path)
    assert "was never trained" in caplog.text


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def edit_config(folder: Path, **changes) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit(change):
    def apply(folder: Path) -> None:
        tensors = safetensors.load_file(folder / WEIGHTS)
        change(tensors)
        safetensors.save_file(tensors, folder / WEIGHTS)

    return apply


A = "base_model.model.backbone_model.layers.0.self_attn.q_proj.lora_A.weight"
B = A.replace("lora_A", "lora_B")

REFUSED = {
    "DoRA": (lambda f: edit_config(f, use_dora=True), "uses DoRA, which .* merge it with peft"),
    "DoRA by its tensors": (
        edit(lambda t: t.update({A.replace("lora_A", "lora_magnitude_vector"): torch.ones(4)})),
        "uses DoRA",
    ),
    "a base that changed": (
        lambda f: edit_config(f, init_lora_weights="pissa_niter_4"),
        "uses init_lora_weights 'pissa_niter_4', which changes the base's weights too",
    ),
    "LoftQ": (lambda f: edit_config(f, loftq_config={"loftq_bits": 4}), "uses LoftQ"),
    "another kind": (lambda f: edit_config(f, peft_type="IA3"), "uses peft_type 'IA3'"),
    "what is not known yet": (
        lambda f: edit_config(f, use_newest_idea={"strength": 3}),
        "uses use_newest_idea .*strength",
    ),
    "tokens of its own": (
        lambda f: edit_config(f, trainable_token_indices=[5]),
        "uses trainable_token_indices",
    ),
    "no scale": (lambda f: edit_config(f, lora_alpha=None), "lora_alpha must be a number"),
    "an endless scale": (
        lambda f: edit_config(f, lora_alpha=float("inf")),
        "lora_alpha must be a number",
    ),
    "a pattern without an end": (
        lambda f: edit_config(f, alpha_pattern={"(a+)+b": 1}),
        "alpha_pattern must be names of modules",
    ),
    "a pattern that is none": (
        lambda f: edit_config(f, alpha_pattern={"(": 1}),
        "alpha_pattern must be regular expressions",
    ),
    "half of it": (edit(lambda t: t.pop(B)), "one half of the adapter of backbone_model"),
    "another rank": (
        edit(lambda t: t.update({B: torch.ones(64, 5)})),
        r"shapes \(4, 64\) and \(64, 5\), expected \(rank, in\) and \(out, rank\)",
    ),
    "another width": (
        edit(lambda t: t.update({A: torch.ones(4, 32)})),
        r"changes backbone_model.* by \(64, 32\), the base model has \(64, 64\)",
    ),
    "a layer too many": (
        edit(lambda t: t.update({n.replace("s.0", "s.77"): t[n].clone() for n in (A, B)})),
        r"changes backbone_model\.layers\.77\..*, which the base model does not have",
    ),
    "no tensors": (edit(lambda t: t.clear()), "holds no tensors"),
    "no numbers": (
        edit(lambda t: t[B].fill_(float("nan"))),
        "values that are not numbers",
    ),
    "cut short": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]),
        "is cut short",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"holds no {WEIGHTS}"),
    "a pickle": (
        lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"),
        "is a PyTorch pickle, which can run code",
    ),
    "no configuration": (lambda f: (f / CONFIG).unlink(), f"holds no {CONFIG}"),
    "a broken configuration": (lambda f: (f / CONFIG).write_text("{"), "cannot be read"),
    "a configuration of another kind": (
        lambda f: (f / CONFIG).write_text("[]"),
        "holds no JSON object",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_merged_is_refused_by_name(small_folder, notebook, tmp_path, change, words):
    folder = Path(shutil.copytree(notebook[0], tmp_path / "adapter"))
    change(folder)
    with pytest.raises(StartupError) as refusal:
        read_all(open_checkpoint(small_folder, folder).tensors)
    assert re.search(words, str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)
