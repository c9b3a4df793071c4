"""Every published layout gives the same tensors; what is wrong is one sentence."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from tts_provider.engines.csm.config import CSM_1B, RopeScaling, read_config
from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint
from tts_provider.engines.csm.files.tensors import read_safetensors
from tts_provider.errors import StartupError

from ..checkpoints import save_original_layout

safetensors = lazy_import("safetensors.torch")
torch = lazy_import("torch")


@pytest.fixture(name="copied")
def copied_folder(small_folder, tmp_path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "copy"))


def test_all_layouts_are_one(small_model, small_folder, tmp_path):
    ours = open_checkpoint(small_folder)
    original = save_original_layout(small_model, tmp_path / "original", pickle=False)
    pickled = save_original_layout(small_model, tmp_path / "pickle", pickle=True)
    sharded = tmp_path / "sharded"
    small_model.save_pretrained(sharded, max_shard_size="8MB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    for folder in (original, pickled, sharded):
        theirs = open_checkpoint(folder)
        assert theirs.config == ours.config
        assert set(theirs.tensors) == set(ours.tensors)
        for name in ours.tensors:
            assert np.array_equal(ours.read(name), theirs.read(name)), name
    assert not open_checkpoint(original).codec
    assert len(open_checkpoint(sharded).codec) == len(ours.codec) > 100


def test_bfloat16_is_read(small_model, tmp_path):
    folder = tmp_path / "bfloat16"
    copy.deepcopy(small_model).to(torch.bfloat16).save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.read("lm_head.weight").dtype.name == "bfloat16"


def test_rope_scaling_from_either_key(copied):
    path = copied / "config.json"
    newer = read_config(path)
    assert newer.backbone.rope_scaling == RopeScaling(32.0, 0.125, 0.5, 1024)
    body = json.loads(path.read_text())
    for part in (body, body["depth_decoder_config"], body["codec_config"]):
        rope = part.pop("rope_parameters")
        part["rope_theta"] = rope.pop("rope_theta")
        part["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(body))
    assert read_config(path) == newer


def test_both_ways_to_state_the_scaling_are_the_same_angles():
    from dataclasses import replace

    from tts_provider.engines.csm.rope import rope_angles

    theirs = replace(CSM_1B.backbone, rope_scaling=RopeScaling(32.0, 0.125, 0.5, 1024))
    ours = rope_angles(CSM_1B.backbone, 2048)
    assert np.allclose(ours, rope_angles(theirs, 2048), rtol=1e-9)


def edit(folder: Path, change) -> Path:
    path = folder / "model.safetensors"
    tensors = safetensors.load_file(path)
    change(tensors)
    safetensors.save_file(tensors, path)
    return folder


NORM = "backbone_model.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), f"lacks 1 tensors of the model, for one {NORM}"),
        (lambda t: t.update(extra=torch.ones(1)), "1 tensors that this model does not know"),
        (
            lambda t: t.update({NORM: torch.ones(3)}),
            r"the shape \(3,\), config.json requires \(64,\)",
        ),
        (lambda t: t.update({NORM: torch.ones(64, dtype=torch.int32)}), "cannot read"),
    ],
)
def test_wrong_tensors_are_named(copied, change, message):
    with pytest.raises(StartupError, match=message):
        open_checkpoint(edit(copied, change))


def test_values_that_are_no_numbers_are_found(copied):
    edit(copied, lambda t: t[NORM].__setitem__(5, float("nan")))
    with pytest.raises(StartupError, match=f"tensor {NORM} holds values that are not numbers"):
        open_checkpoint(copied).read(NORM)


def test_another_architecture_is_said(tmp_path):
    safetensors.save_file({"model.embed.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(StartupError, match=r"another architecture .*model\.embed\.weight"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("length", [0, 4, 100, 20_000, -1])
def test_a_file_cut_short_is_named(copied, length):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StartupError, match=r"model\.safetensors.*download it again"):
        open_checkpoint(copied)


def test_a_missing_shard_and_a_broken_index_are_named(small_model, tmp_path):
    small_model.save_pretrained(tmp_path, max_shard_size="8MB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(StartupError, match=f"not complete: {shard.name} is missing"):
        open_checkpoint(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    with pytest.raises(StartupError, match="no index of weights"):
        open_checkpoint(tmp_path)
    index.write_text("{")
    with pytest.raises(StartupError, match="no index of weights"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "a model of type 'llama'"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers must be a positive integer"),
        ({"hidden_act": "relu"}, "hidden_act must be 'silu'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "rope_type must be"),
        ({"depth_decoder_config": None}, "depth_decoder_config must be an object"),
    ],
)
def test_a_config_that_is_not_ours_is_said(copied, change, message):
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StartupError, match=message):
        open_checkpoint(copied)


def test_a_config_that_is_missing_or_broken(copied):
    (copied / "config.json").write_text("{")
    with pytest.raises(StartupError, match=r"config\.json cannot be read"):
        open_checkpoint(copied)
    (copied / "config.json").unlink()
    with pytest.raises(StartupError, match=r"config\.json is missing"):
        open_checkpoint(copied)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_poisoned_pickle_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"text_embeddings.weight": torch.ones(1), "bomb": Bomb()}, tmp_path / "ckpt.pt")
    with pytest.raises(StartupError, match=r"ckpt\.pt is damaged or holds more than tensors"):
        open_checkpoint(tmp_path)
    (tmp_path / "ckpt.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StartupError, match=r"ckpt\.pt"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_without_a_codec_needs_one(small_model, tmp_path):
    folder = save_original_layout(small_model, tmp_path / "original", pickle=False)
    with pytest.raises(StartupError, match="download kyutai/mimi"):
        find_codec(open_checkpoint(folder), None)
    mimi = tmp_path / "mimi"
    small_model.codec_model.save_pretrained(mimi)
    config, tensors = find_codec(open_checkpoint(folder), mimi)
    assert config == read_config(folder / "config.json").mimi
    assert len(tensors) > 100
    edit(mimi, lambda t: t.pop("upsample.conv.weight"))
    with pytest.raises(StartupError, match=r"codec lacks 1 tensors.*upsample\.conv\.weight"):
        find_codec(open_checkpoint(folder), mimi)


def test_the_header_may_not_lie(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(StartupError, match="tensor a has a wrong size"):
        read_safetensors(path)
    path.write_bytes((2**60).to_bytes(8, "little") + header)
    with pytest.raises(StartupError, match="cut short"):
        read_safetensors(path)
