"""Finding the model's files on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.csm.files.repositories import (
    CACHE_NAME,
    MIMI,
    SHARDS,
    WEIGHTS,
    index,
    safetensors,
    write,
)
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.snapshot import (
    MIMI_REPOSITORY,
    find_mimi,
    find_tokenizer,
    resolve_model_path,
)
from tts_provider.errors import StartupError

# --model-path


def write_cache(cache: Path, *commits: str, main: str | None = None) -> Path:
    """A hub cache with complete snapshots, oldest first."""
    repository = cache / CACHE_NAME
    for age, commit in enumerate(commits):
        snapshot = write(repository / "snapshots" / commit, WEIGHTS)
        os.utime(snapshot, (1000 + age, 1000 + age))
    if main is not None:
        write(repository / "refs", {"main": main.encode()})
    return repository


SAVE_PRETRAINED = {
    "model.safetensors.index.json": index(a="model-00001-of-00001.safetensors"),
    "model-00001-of-00001.safetensors": safetensors("a"),
}


@pytest.mark.parametrize(
    "files",
    [WEIGHTS, SAVE_PRETRAINED, {"model.safetensors": safetensors("a")}, {"ckpt.pt": b"PK"}],
    ids=["transformers", "shards", "single file", "pickle"],
)
def test_a_plain_folder_of_any_layout_is_taken(tmp_path, files):
    assert resolve_model_path(write(tmp_path / "model", files)) == tmp_path / "model"


def test_the_snapshot_that_main_names_is_taken(tmp_path):
    repository = write_cache(tmp_path / "hub", "old", "new", main="old")
    old = repository / "snapshots" / "old"
    for path in (repository, repository / "snapshots", old, repository.parent, tmp_path):
        assert resolve_model_path(path) == old
    assert resolve_model_path(repository / "snapshots" / "new").name == "new"


def test_without_main_the_newest_complete_snapshot_is_taken(tmp_path):
    repository = write_cache(tmp_path, "old", "newer", "newest")
    assert resolve_model_path(repository).name == "newest"
    (repository / "snapshots" / "newest" / SHARDS[1]).unlink()
    assert resolve_model_path(repository).name == "newer"
    write(repository / "refs", {"main": b"newest"})
    assert resolve_model_path(repository).name == "newer"


def test_what_an_earlier_download_left_behind_does_not_hinder(tmp_path):
    repository = write_cache(tmp_path, "only", main="only")
    write(repository / "blobs", {"0123.4567.incomplete": b"half"})
    assert resolve_model_path(repository).name == "only"


def _dangling(folder: Path) -> None:
    write(folder, WEIGHTS)
    (folder / SHARDS[1]).unlink()
    (folder / SHARDS[1]).symlink_to("../../blobs/0123")


BROKEN = {
    "empty": ({}, "is empty; give a folder of sesame/csm-1b"),
    "other files": (
        {"notes.txt": b"hello"},
        "holds no model: none of transformers.safetensors.index.json, "
        "model.safetensors.index.json, transformers.safetensors, model.safetensors, ckpt.pt",
    ),
    "a shard missing": (
        {name: body for name, body in WEIGHTS.items() if name != SHARDS[1]},
        f"is not complete: {SHARDS[1]} is missing, and 1 of 2 weight files in all, which ",
    ),
    "no index": ({SHARDS[0]: WEIGHTS[SHARDS[0]]}, "no index that names its parts"),
    "an index that is none": (
        {"model.safetensors.index.json": b"{"},
        "model.safetensors.index.json is no index of weights",
    ),
    "an index that leads out": (
        {"model.safetensors.index.json": index(a="../a.safetensors")},
        "it names no files of its folder",
    ),
    "cut short": ({"model.safetensors": safetensors("a")[:-1]}, "is cut short"),
    "a pointer": (
        {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0"},
        "is a Git LFS pointer, not the file itself; run `git lfs pull` in",
    ),
}


@pytest.mark.parametrize(("files", "words"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_no_whole_model_is_refused(tmp_path, files, words):
    with pytest.raises(StartupError) as refusal:
        resolve_model_path(write(tmp_path / "model", files))
    assert words in str(refusal.value)
    assert str(tmp_path / "model") in str(refusal.value)


def test_a_half_downloaded_snapshot_is_refused(tmp_path):
    snapshot = tmp_path / CACHE_NAME / "snapshots" / "half"
    _dangling(snapshot)
    for path in (snapshot, tmp_path / CACHE_NAME):
        with pytest.raises(StartupError, match="link to a file that has not arrived; --mode down"):
            resolve_model_path(path)
    empty = tmp_path / "other" / CACHE_NAME
    (empty / "snapshots").mkdir(parents=True)
    with pytest.raises(StartupError, match="holds no snapshot yet"):
        resolve_model_path(empty)


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    write(tmp_path, {"model.safetensors": b""})
    (tmp_path / "link").symlink_to("nowhere")
    for name, words in {
        "missing": "does not exist; give a folder of sesame/csm-1b, or fetch it with --mode down",
        "link": "is a link to nothing",
        "model.safetensors": f"is a file; give the folder that holds it: {tmp_path}",
    }.items():
        with pytest.raises(StartupError) as refusal:
            resolve_model_path(tmp_path / name)
        assert words in str(refusal.value)


# Tokenizer and codec


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


def cached(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    name = f"models--{repository.replace('/', '--')}"
    return write(cache / name / "snapshots" / "any", files)


@pytest.mark.usefixtures("no_cache")
def test_the_tokenizer_is_found_beside_the_weights_then_in_the_same_cache(tmp_path):
    snapshot = cached(tmp_path, CSM_REPOSITORY, WEIGHTS)
    with pytest.raises(StartupError, match=r"hf download unsloth/Llama-3\.2-1B tokenizer\.json"):
        find_tokenizer(snapshot)
    other = cached(tmp_path, "meta-llama/Llama-3.2-1B", {"tokenizer.json": b"{}"})
    assert find_tokenizer(snapshot) == other / "tokenizer.json"
    write(snapshot, {"tokenizer.json": b"{}"})
    assert find_tokenizer(snapshot) == snapshot / "tokenizer.json"


@pytest.mark.usefixtures("no_cache")
def test_the_codec_is_found_in_the_weights_then_beside_them_then_in_the_same_cache(tmp_path):
    assert find_mimi(write(tmp_path / "whole", WEIGHTS)) is None
    snapshot = cached(tmp_path, CSM_REPOSITORY, {"model.safetensors": safetensors("a")})
    with pytest.raises(StartupError, match="bring no codec, and kyutai/mimi is not here"):
        find_mimi(snapshot)
    mimi = cached(tmp_path, MIMI_REPOSITORY, MIMI)
    assert find_mimi(snapshot) == mimi
    beside = write(snapshot / "mimi", MIMI)
    assert find_mimi(snapshot) == beside
