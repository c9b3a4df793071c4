"""Every layout that people have: it opens as the same model, or a sentence says what it is.

The rows of the table in docs/models.md are the cases here.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from tts_provider.engines.csm.config import CSM_1B, read_config
from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint
from tts_provider.engines.csm.files.snapshot import resolve_model_path
from tts_provider.errors import StartupError

from ..checkpoints import original_tensors, save_original_layout

safetensors = lazy_import("safetensors.torch")
torch = lazy_import("torch")

WEIGHTS, CONFIG = "model.safetensors", "config.json"
INDEX = "model.safetensors.index.json"


@pytest.fixture(name="copied")
def copied_folder(small_folder, tmp_path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "copy"))


def change_config(folder: Path, **changes) -> None:
    body = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(body | changes))


def rename_tensors(folder: Path, rename) -> None:
    tensors = safetensors.load_file(folder / WEIGHTS)
    safetensors.save_file(
        {rename(name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS
    )


def add_tensors(folder: Path, **tensors) -> None:
    safetensors.save_file({**safetensors.load_file(folder / WEIGHTS), **tensors}, folder / WEIGHTS)


# What works. Each takes a copy of the small model and gives its folder to open.


def _module_names(folder: Path) -> None:
    """As `save_file(model.state_dict())` writes them: the codec's parts are modules there."""

    def rename(name: str) -> str:
        for published, module in (
            ("codec_model.decoder_transformer.", "codec_model.decoder.decoder_transformer."),
            ("codec_model.decoder.", "codec_model.decoder.decoder_seanet."),
            ("codec_model.encoder_transformer.", "codec_model.encoder.encoder_transformer."),
            ("codec_model.encoder.", "codec_model.encoder.encoder_seanet."),
            ("codec_model.upsample.", "codec_model.decoder.upsample."),
            ("codec_model.downsample.", "codec_model.encoder.downsample."),
        ):
            if name.startswith(published):
                return module + name.removeprefix(published)
        return name

    rename_tensors(folder, rename)


def _shards(folder: Path) -> None:
    tensors = safetensors.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names, weight_map = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        safetensors.save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def _named_by_the_config(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "tuned.safetensors")
    (folder / WEIGHTS).write_bytes(b"another model")
    change_config(folder, transformers_weights="tuned.safetensors")


def _a_stale_index(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00009.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index))


def _an_index_of_old_names(folder: Path) -> None:
    _shards(folder)
    body = json.loads((folder / INDEX).read_text())
    body["weight_map"]["model.layers.0.gone"] = next(iter(body["weight_map"].values()))
    (folder / INDEX).write_text(json.dumps(body))


def _buffers(folder: Path) -> None:
    add_tensors(
        folder,
        **{
            "backbone_model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
            "backbone_model.embed_tokens.audio_tokens_offsets": torch.arange(32),
            "depth_decoder.model.rotary_emb.inv_freq": torch.ones(8),
        },
    )


def _trained_on(folder: Path) -> None:
    """What trainers leave beside a model."""
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"\x80\x04")
    (folder / "trainer_state.json").write_text("{}")


WORKS = {
    "model.safetensors": lambda f: None,
    "shards with an index": _shards,
    "transformers' own names": lambda f: (f / WEIGHTS).rename(f / "transformers.safetensors"),
    "the file that config.json names": _named_by_the_config,
    "any single safetensors file": lambda f: (f / WEIGHTS).rename(f / "her-voice.safetensors"),
    "ckpt.safetensors": lambda f: (f / WEIGHTS).rename(f / "ckpt.safetensors"),
    "a stale index beside model.safetensors": _a_stale_index,
    "an index with names that no file has": _an_index_of_old_names,
    "the prefix model.": lambda f: rename_tensors(f, lambda n: f"model.{n}"),
    "the prefix module.": lambda f: rename_tensors(f, lambda n: f"module.{n}"),
    "the prefix _orig_mod.": lambda f: rename_tensors(f, lambda n: f"_orig_mod.{n}"),
    "prefixes within": lambda f: rename_tensors(
        f, lambda n: n.replace("backbone_model.", "backbone_model._orig_mod.")
    ),
    "several prefixes": lambda f: rename_tensors(f, lambda n: f"module._orig_mod.model.{n}"),
    "a state_dict with modules' names": _module_names,
    "buffers that are computed": _buffers,
    "a trainer's checkpoint": _trained_on,
}


@pytest.mark.parametrize("change", WORKS.values(), ids=WORKS)
def test_it_opens_as_the_same_model(small_folder, copied, change):
    change(copied)
    assert resolve_model_path(copied) == copied
    ours, base = open_checkpoint(copied), open_checkpoint(small_folder)
    assert set(ours.tensors) == set(base.tensors)
    for name in ("lm_head.weight", "backbone_model.layers.1.self_attn.q_proj.weight"):
        assert np.array_equal(ours.read(name), base.read(name))
    config, codec = find_codec(ours, None)
    assert config == base.config.mimi
    assert set(codec) == set(base.codec)


def test_the_original_layout_under_other_names(small_model, tmp_path):
    folder = save_original_layout(small_model, tmp_path, pickle=False)
    base = open_checkpoint(folder)
    tensors = {f"model.{name}": tensor for name, tensor in original_tensors(small_model).items()}
    tensors["model.backbone_causal_mask"] = torch.ones(4, 4, dtype=torch.bool)
    tensors["model.backbone.layers.0.attn.pos_embeddings.cache"] = torch.ones(4)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / CONFIG, other)
    safetensors.save_file(tensors, other / "ckpt.safetensors")
    theirs = open_checkpoint(other)
    for name in base.tensors:
        assert np.array_equal(base.read(name), theirs.read(name)), name


def sparse_original(folder: Path, config: dict | None) -> Path:
    """CSM-1B in the original layout in its full size, without a number in it."""
    folder.mkdir()
    shapes, header, at = {}, {}, 0
    for name, head, kv, width, mlp, layers in (
        ("backbone", 2048, 512, 2048, 8192, 16),
        ("decoder", 1024, 256, 1024, 8192, 4),
    ):
        shapes[f"{name}.norm.scale"] = (width,)
        for layer in range(layers):
            of = f"{name}.layers.{layer}"
            for part, rows in (("q", head), ("k", kv), ("v", kv)):
                shapes[f"{of}.attn.{part}_proj.weight"] = (rows, width)
            shapes[f"{of}.attn.output_proj.weight"] = (width, head)
            shapes[f"{of}.mlp.w1.weight"] = shapes[f"{of}.mlp.w3.weight"] = (mlp, width)
            shapes[f"{of}.mlp.w2.weight"] = (width, mlp)
            shapes[f"{of}.sa_norm.scale"] = shapes[f"{of}.mlp_norm.scale"] = (width,)
    shapes |= {
        "text_embeddings.weight": (128_256, 2048),
        "audio_embeddings.weight": (32 * 2051, 2048),
        "projection.weight": (1024, 2048),
        "codebook0_head.weight": (2051, 2048),
        "audio_head": (31, 1024, 2051),
    }
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    if config is not None:
        (folder / CONFIG).write_text(json.dumps(config))
    return folder


FLAVORS = {
    "backbone_flavor": "llama-1B",
    "decoder_flavor": "llama-100M",
    "text_vocab_size": 128_256,
    "audio_vocab_size": 2051,
    "audio_num_codebooks": 32,
}


@pytest.mark.parametrize(
    "config",
    [None, FLAVORS, {"args": FLAVORS}, {"backbone_flavor": "llama-1B"}],
    ids=["none", "at the top", "under args", "one name"],
)
def test_the_original_layout_with_its_own_config(tmp_path, config):
    assert open_checkpoint(sparse_original(tmp_path / "csm", config)).config == CSM_1B


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone_flavor": "llama-3B"}, "backbone_flavor must be 'llama-1B' or 'llama-100M'"),
        ({"decoder_flavor": ["x"]}, "decoder_flavor must be 'llama-1B' or 'llama-100M'"),
        ({"audio_num_codebooks": "many"}, "audio_num_codebooks must be a positive integer"),
    ],
)
def test_an_original_config_that_is_not_ours_is_said(tmp_path, changes, words):
    (tmp_path / CONFIG).write_text(json.dumps({"args": FLAVORS | changes}))
    with pytest.raises(StartupError, match=words):
        read_config(tmp_path / CONFIG)


def test_of_two_models_the_one_that_is_read_is_logged(small_model, copied, caplog):
    caplog.set_level(logging.INFO)
    safetensors.save_file(original_tensors(small_model), copied / "ckpt.safetensors")
    open_checkpoint(copied)
    assert f"{copied} holds several models; {WEIGHTS} is read, not ckpt.safetensors" in caplog.text


def test_audio_tables_that_training_parted_are_both_kept(small_model, copied, tmp_path):
    """The depth decoder reads its own: the end of every frame depends on it."""
    from tts_provider.engines.csm.prompt import text_prompt

    from ..conftest import make_backend, make_torch_backend
    from ..test_parity import TEXT_IDS, generate, speak

    untied = copy.deepcopy(small_model)
    table = untied.depth_decoder.model.embed_tokens
    table.weight = torch.nn.Parameter(table.weight.detach() + 0.3 * torch.randn(table.weight.shape))
    assert table.weight is not untied.backbone_model.embed_tokens.embed_audio_tokens.weight
    add_tensors(
        copied,
        **{
            "backbone_model.embed_tokens.embed_audio_tokens.weight": (
                untied.backbone_model.embed_tokens.embed_audio_tokens.weight.detach().clone()
            ),
            "depth_decoder.model.embed_tokens.weight": table.weight.detach().clone(),
        },
    )
    expected = generate(untied, 8, input_ids=torch.tensor([TEXT_IDS]))
    tied = generate(small_model, 8, input_ids=torch.tensor([TEXT_IDS]))
    assert not np.array_equal(expected, tied)
    for backend in (
        make_backend(copied, tmp_path / "cache", "float32", slots=1),
        make_torch_backend(copied, slots=1),
    ):
        assert np.array_equal(speak(backend, text_prompt(TEXT_IDS, 32), 8), expected)
        backend.close()


# What is refused.


def _only(name: str, body: bytes = b"\x00" * 64):
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(body)

    return change


def _mlx(folder: Path) -> None:
    safetensors.save_file(
        safetensors.load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"format": "mlx"}
    )


def _two_unnamed(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / "one.safetensors")
    (folder / WEIGHTS).rename(folder / "two.safetensors")


def _twice(folder: Path) -> None:
    add_tensors(folder, **{"model.lm_head.weight": torch.zeros(2051, 64)})


def _trainer(folder: Path) -> None:
    for step in ("checkpoint-9", "checkpoint-120"):
        (folder / step).mkdir()
        shutil.copy(folder / WEIGHTS, folder / step)
    (folder / WEIGHTS).unlink()


Q = "backbone_model.layers.0.self_attn.q_proj"

REFUSED = {
    "bitsandbytes, by its config": (
        lambda f: change_config(f, quantization_config={"quant_method": "bitsandbytes"}),
        "holds weights quantized by bitsandbytes, .* use the unquantized model",
    ),
    "bitsandbytes, by its tensors": (
        lambda f: add_tensors(f, **{f"{Q}.weight.absmax": torch.ones(4)}),
        "holds weights quantized by bitsandbytes",
    ),
    "GPTQ": (
        lambda f: add_tensors(f, **{f"{Q}.qweight": torch.ones(4, dtype=torch.int32)}),
        "holds weights quantized by GPTQ or AWQ",
    ),
    "float8": (
        lambda f: add_tensors(f, **{f"{Q}.weight": torch.ones(64, 64).to(torch.float8_e4m3fn)}),
        f"tensor {Q}.weight has the type F8_E4M3, which this engine cannot read",
    ),
    "MLX": (_mlx, "was written by MLX for Apple's machines"),
    "MLX, quantized": (
        lambda f: change_config(f, quantization={"bits": 4}),
        "holds weights quantized by MLX",
    ),
    "MLX's older file": (_only("weights.npz"), "holds MLX weights for Apple's machines"),
    "GGUF": (_only("csm-1b-q4.gguf"), "holds GGUF weights, which llama.cpp"),
    "GGUF under another name": (_only(WEIGHTS, b"GGUF" + bytes(60)), "it is a GGUF file"),
    "ONNX": (_only("model.onnx"), "holds an ONNX graph"),
    "pytorch_model.bin": (
        _only("pytorch_model.bin"),
        r"is a PyTorch pickle, which can run code .* convert it with save_pretrained",
    ),
    "a .pt of another name": (_only("finetuned.pt"), "rename it to ckpt.pt if it is one of the"),
    "a trainer's parent folder": (_trainer, "give its newest checkpoint: .*checkpoint-120$"),
    "two models without a name": (
        _two_unnamed,
        r"2 safetensors files \(one.safetensors, two.safetensors\) and none has a name that says",
    ),
    "an adapter that was not merged": (
        lambda f: add_tensors(f, **{f"{Q}.lora_A.default.weight": torch.ones(4, 64)}),
        "holds an adapter that was not merged .* merge_and_unload",
    ),
    "one tensor under two names": (_twice, "holds the tensor lm_head.weight twice"),
    "a file outside": (
        lambda f: change_config(f, transformers_weights="../../secret.safetensors"),
        "transformers_weights must name a file beside it",
    ),
    "a file that is not there": (
        lambda f: change_config(f, transformers_weights="other.safetensors"),
        "not complete: other.safetensors, which its config.json names",
    ),
    "layers that nobody knows": (
        lambda f: add_tensors(f, emotion_head=torch.ones(4)),
        "1 tensors that this model does not know, for one emotion_head",
    ),
    "a config that is too deep": (
        lambda f: (f / CONFIG).write_text('{"a":' * 100_000),
        "config.json cannot be read",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_it_says_what_it_is_and_what_to_do(copied, change, words):
    change(copied)
    with pytest.raises(StartupError) as refusal:
        open_checkpoint(copied)
    assert re.search(words, str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(copied) in str(refusal.value)
