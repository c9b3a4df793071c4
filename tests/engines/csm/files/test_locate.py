"""From what a user asks for to the files: folders, repositories of the hub, adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tts_provider.config import Settings, load_settings
from tts_provider.engines.csm.build import may_download
from tts_provider.engines.csm.files.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tts_provider.engines.csm.files.locate import locate, name_of
from tts_provider.errors import StartupError

from .repositories import WEIGHTS, safetensors, write

TOKENIZER = {"tokenizer.json": b"{}"}


@pytest.fixture(name="cache")
def hub_cache(monkeypatch, tmp_path) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, repository: str, files: dict[str, bytes], commit: str = "any") -> Path:
    name = f"models--{repository.replace('/', '--')}"
    return write(cache / name / "snapshots" / commit, files)


def adapter(folder: Path, base: str | None = "unsloth/csm-1b", **config) -> Path:
    config = {"peft_type": "LORA", "base_model_name_or_path": base, **config}
    return write(
        folder,
        {ADAPTER_CONFIG: json.dumps(config).encode(), ADAPTER_WEIGHTS: safetensors("a")},
    )


def found(**settings):
    said: list[str] = []
    files = locate(Settings(_env_file=None, **settings), said.append, may_download=False)
    return files, said


def refusal(**settings) -> str:
    with pytest.raises(StartupError) as refused:
        found(**settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_adapter_finds_the_model_that_it_was_trained_on(cache, tmp_path):
    lora = adapter(tmp_path / "lora_model")
    message = refusal(model_path=lora)
    assert f"{lora} is an adapter of unsloth/csm-1b, which is not in the Hugging Face" in message
    assert f"--model-path BASE --adapter {lora}" in message
    assert f"--mode download --adapter {lora}" in message
    base = cached(cache, "unsloth/csm-1b", {**WEIGHTS, **TOKENIZER})
    for settings in ({"model_path": lora}, {"adapter": lora}):
        files, said = found(**settings)
        assert (files.folder, files.adapter) == (base, lora)
        assert said == [f"the adapter in {lora} is merged into {base}"]
        assert name_of(files) == "unsloth/csm-1b+lora_model"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("csm-1b", "sesame/csm-1b"),
        ("Sesame_CSM_1B", "sesame/csm-1b"),
        ("anna-merged", "anna-merged"),
        ("csm-1b-anna", "csm-1b-anna"),
        ("anna/checkpoint-120", "anna/checkpoint-120"),
        ("Anna's\nmodel \x1b[31m", "Anna-s-model-31m"),
        ("x" * 200, "x" * 100),
    ],
)
def test_a_folder_of_ones_own_is_called_as_it_is(tmp_path, folder, name):
    files, _ = found(model_path=write(tmp_path / folder, {**WEIGHTS, **TOKENIZER}))
    assert name_of(files) == name


def test_an_adapter_of_a_revision_or_of_a_folder(cache, tmp_path):
    pinned = cached(cache, "a/b", {**WEIGHTS, **TOKENIZER}, "0123")
    cached(cache, "a/b", {**WEIGHTS, **TOKENIZER}, "4567")
    files, _ = found(adapter=adapter(tmp_path / "one", "a/b", revision="0123"))
    assert files.folder == pinned
    plain = write(tmp_path / "plain", {**WEIGHTS, **TOKENIZER})
    files, _ = found(adapter=adapter(tmp_path / "two", str(plain)))
    assert files.folder == plain
    gone = refusal(adapter=adapter(tmp_path / "three", "/content/csm"))
    assert "an adapter of /content/csm, which is not on this machine; give the model" in gone
    nameless = refusal(adapter=adapter(tmp_path / "four", None))
    assert "does not say of which model; give the model that it was trained on" in nameless
    assert "must be a text, got '5'" in refusal(adapter=adapter(tmp_path / "five", 5))
    outside = refusal(adapter=adapter(tmp_path / "six", "../.."))
    assert "which is not on this machine" in outside


def test_an_adapter_beside_its_base_and_one_for_a_base(cache, tmp_path):
    both = adapter(write(tmp_path / "both", {**WEIGHTS, **TOKENIZER}), "no/where")
    files, _ = found(model_path=both)
    assert (files.folder, files.adapter) == (both, both)
    other = adapter(tmp_path / "other", "no/where")
    files, _ = found(model_path=both, adapter=other)
    assert (files.folder, files.adapter) == (both, other)
    assert "is an adapter too; give the model that" in refusal(model_path=other, adapter=both)


def test_a_folder_that_is_no_adapter_is_said(cache, tmp_path):
    assert "does not exist; give what save_pretrained wrote" in refusal(adapter=tmp_path / "no")
    write(tmp_path, {"file": b""})
    assert "is a file; give the folder" in refusal(adapter=tmp_path / "file")
    trainer = write(tmp_path / "outputs", {"trainer_state.json": b"{}"})
    assert "holds no adapter: adapter_config.json is not there" in refusal(adapter=trainer)
    for step in (60, 9, 120):
        adapter(trainer / f"checkpoint-{step}")
    (trainer / "checkpoint-500").mkdir()
    newest = trainer / "checkpoint-120"
    assert f"its newest checkpoint is {newest}" in refusal(adapter=trainer)
    assert (
        f"a trainer's folder without a model of its own; give its newest checkpoint: {newest}"
        in (refusal(model_path=trainer))
    )


def test_a_repository_in_the_cache_is_found_by_itself(cache):
    message = refusal(model="keanteng/sesame-csm")
    assert "is not in the Hugging Face cache; fetch it with --mode download" in message
    folder = cached(cache, "keanteng/sesame-csm", {**WEIGHTS, **TOKENIZER})
    files, _ = found(model="keanteng/sesame-csm")
    assert files.folder == folder
    assert name_of(files) == "keanteng/sesame-csm"
    assert "not in the Hugging Face cache" in refusal(model="keanteng/sesame-csm@v2")
    (folder.parent.parent / "refs").mkdir()
    (folder.parent.parent / "refs" / "v2").write_text("any")
    assert found(model="keanteng/sesame-csm@v2")[0].folder == folder


def test_a_repository_may_be_an_adapter(cache):
    base = cached(cache, "unsloth/csm-1b", {**WEIGHTS, **TOKENIZER})
    lora = cached(cache, "someone/her-voice", {})
    adapter(lora)
    files, _ = found(model="someone/her-voice")
    assert (files.folder, files.adapter) == (base, lora)
    (lora / ADAPTER_WEIGHTS).rename(lora / "elsewhere")
    assert f"{lora} is not complete: it has {ADAPTER_CONFIG} and no" in refusal(
        model="someone/her-voice"
    )
    (lora / "elsewhere").rename(lora / ADAPTER_WEIGHTS)
    assert name_of(files) == "someone/her-voice"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"mode": "download", "model_path": "x"},
            "--mode download fetches a model, and --model-path x is one that is here; give --mode",
        ),
        ({"model": "a/b", "model_path": "x"}, "--model names a repository of the hub and"),
        ({"model": "csm"}, "--model is 'csm': expected OWNER/NAME or OWNER/NAME@REVISION"),
        ({"model": "a/../b"}, "expected OWNER/NAME"),
        ({"mode": "reuse"}, "--mode reuse needs the model's folder"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags, words):
    with pytest.raises(StartupError) as refused:
        load_settings(flags)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, True),
        ({"model": "a/b"}, True),
        ({"adapter": "a"}, True),
        ({"model_path": "a"}, False),
        ({"model": "a/b", "mode": "reuse"}, False),
        ({"adapter": "a", "mode": "download"}, True),
    ],
)
def test_what_may_be_downloaded(flags, expected):
    assert may_download(load_settings(flags)) is expected
