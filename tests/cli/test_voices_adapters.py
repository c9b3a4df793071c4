"""`tts-provider voices add --adapter` as a user types it."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from engines.csm.adapters.trained import train_voice
from engines.csm.checkpoints import save_transformers_layout, small_csm
from lazy_import import lazy_import
from recordings import TEXT, speech, wav
from tts_provider.cli.main import main

safetensors = lazy_import("safetensors.torch")
torch = lazy_import("torch")

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model and one of its adapters."""
    folder = tmp_path_factory.mktemp("made")
    model = small_csm()
    save_transformers_layout(model, folder / "model")
    train_voice(model, folder / "lora_model", 1)
    return folder


@pytest.fixture(name="cli")
def make_cli(made, tmp_path, monkeypatch, capsys):
    """In this process: others are started by test_voices.py."""
    (tmp_path / "model").symlink_to(made / "model")
    shutil.copytree(made / "lora_model", tmp_path / "lora_model")
    (tmp_path / "anna.wav").write_bytes(wav(speech()))
    monkeypatch.chdir(tmp_path)

    def cli(*arguments: str, code: int = 0) -> tuple[list[str], list[str]]:
        found = main(["voices", *arguments, "--data-dir", "data"])
        said = capsys.readouterr()
        assert found == code, said.err
        return said.out.splitlines(), said.err.splitlines()

    return cli


ADD = ("add", "Ann", "--adapter", "lora_model", "--model-path", "model", "--consent")


def test_add_and_list(cli):
    (voice_id,), said = cli(*ADD)
    assert re.fullmatch(r"ann-[0-9a-f]{8}", voice_id)
    assert said == []
    recording = ("--audio", "anna.wav", "--transcript", TEXT)
    (other_id,), _ = cli(*ADD, *recording, "--speaker", "4")
    listed = {line.split("\t")[0]: line.split("\t") for line in cli("list")[0]}
    first, second = listed[voice_id], listed[other_id]
    assert first[:5] == [voice_id, "Ann", "unknown", "no pitch", "no recording"]
    assert first[6:] == second[6:] == ["adapter"]
    assert second[4].endswith(" s")


def test_what_is_missing_is_one_sentence(cli):
    for arguments, words in (
        (("add", "Ann", "--consent"), "give --audio FILE with --transcript TEXT, or --adapter DIR"),
        (("add", "Ann", "--audio", "anna.wav", "--consent"), "with --transcript TEXT"),
        (("add", "Ann", "--speaker", "3", "--audio", "a", "--transcript", "b"), "of an adapter"),
        ((*ADD[:-1],), "add --consent if the person"),
        ((*ADD, "--speaker", "-1"), "--speaker must be 0 to 9999, got -1"),
        ((*ADD[:3], "no", *ADD[4:]), "--adapter no does not exist"),
        ((*ADD[:3], "model", *ADD[4:]), "holds no adapter: adapter_config.json is not there"),
        ((*ADD[:5], "nowhere", "--consent"), "nowhere"),
    ):
        _, errors = cli(*arguments, code=2)
        assert words in errors[-1], (arguments, errors)


def test_one_that_no_voice_can_have_is_refused_and_nothing_is_kept(cli, tmp_path):
    folder = tmp_path / "lora_model"
    config, tensors = (
        json.loads((folder / CONFIG).read_text()),
        safetensors.load_file(folder / WEIGHTS),
    )

    def refused(words: str) -> None:
        _, errors = cli(*ADD, code=1)
        assert words in errors[-1]
        listed, (hint,) = cli("list")
        assert listed == []
        assert "no voices of your own" in hint

    (folder / CONFIG).write_text(json.dumps({**config, "use_dora": True}))
    refused("uses DoRA")
    (folder / CONFIG).write_text(json.dumps(config))
    codec = "base_model.model.codec_model.decoder_transformer.layers.0.self_attn.q_proj"
    halves = {
        f"{codec}.lora_A.weight": torch.ones(4, 8),
        f"{codec}.lora_B.weight": torch.ones(8, 4),
    }
    safetensors.save_file({**tensors, **halves}, folder / WEIGHTS)
    refused("changes the codec's decoder_transformer.layers.0")
    # Of the toy's width, where the model is CSM-1B's.
    safetensors.save_file(tensors, folder / WEIGHTS)
    _, errors = cli("add", "Ann", "--adapter", "lora_model", "--consent", code=1)
    assert "the base model has" in errors[-1]
    assert "\n".join(errors).count("lora_model") == 1
