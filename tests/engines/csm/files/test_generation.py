"""What a model's own generation_config.json asks for, and settings before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lazy_import import lazy_import
from tts_provider.config import Settings
from tts_provider.engines.csm.files.generation import read_sampling
from tts_provider.engines.csm.files.snapshot import ModelFiles
from tts_provider.engines.csm.sampling import Sampling
from tts_provider.errors import StartupError

transformers = lazy_import("transformers")


def sampling(folder: Path, adapter: Path | None = None, **settings) -> Sampling:
    files = ModelFiles(folder, None, folder / "tokenizer.json", adapter)
    return read_sampling(files, Settings(_env_file=None, **settings))


def write(folder: Path, **body) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "generation_config.json").write_text(json.dumps(body))
    return folder


def test_without_a_file_it_is_the_references(tmp_path):
    assert sampling(tmp_path) == Sampling(0.9, 50, None, None)


def test_a_fine_tunes_own_are_defaults(tmp_path):
    transformers.GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_k=30,
        depth_decoder_temperature=0.5,
        depth_decoder_top_k=10,
    ).save_pretrained(tmp_path)
    assert sampling(tmp_path) == Sampling(0.7, 30, 0.5, 10)
    adapter = write(tmp_path / "adapter", temperature=0.4)
    assert sampling(tmp_path, adapter) == Sampling(0.4, 50, None, None)


def test_settings_come_before_the_file(tmp_path):
    write(tmp_path, temperature=0.7, depth_decoder_temperature=0.5, depth_decoder_top_k=10)
    assert sampling(tmp_path, temperature=0.2) == Sampling(0.2, 50, 0.2, 10)
    assert sampling(tmp_path, depth_temperature=0.3, top_k=5) == Sampling(0.7, 5, 0.3, 5)


def test_who_does_not_sample_is_greedy(tmp_path):
    body = {"do_sample": False, "temperature": 0.7, "depth_decoder_do_sample": True}
    assert sampling(write(tmp_path, **body)) == Sampling(0.0, 50, None, None)
    body = {"do_sample": True, "depth_decoder_do_sample": False}
    assert sampling(write(tmp_path, **body)) == Sampling(0.9, 50, 0.0, None)
    assert sampling(write(tmp_path, do_sample=False), temperature=0.5).temperature == 0.5


def test_zero_is_no_bound(tmp_path):
    assert sampling(write(tmp_path, top_k=0)).top_k >= 2051


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"temperature": "hot"}, "temperature must be a number from 0 to 2, got 'hot'"),
        ({"temperature": -1}, "temperature must be a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 to 2"),
        ({"top_k": 2.5}, "top_k must be a whole number from 0 to 1e+06"),
        ({"depth_decoder_top_k": True}, "depth_decoder_top_k must be a whole number"),
        ({"do_sample": "no"}, "do_sample must be true or false, got 'no'"),
        ({"depth_decoder_do_sample": 0}, "depth_decoder_do_sample must be true or false"),
        ([], "holds no JSON object"),
    ],
)
def test_what_is_none_is_said(tmp_path, body, words):
    (tmp_path / "generation_config.json").write_text(json.dumps(body))
    with pytest.raises(StartupError) as refusal:
        sampling(tmp_path)
    assert words in str(refusal.value)
