"""The cache of prepared weights: made once, checked, replaced when the checkpoint changes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.onnx.weights import check_cache, load_weights
from tts_provider.errors import StartupError


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_made_once_and_read_afterwards(small_folder, tmp_path, precision):
    checkpoint = open_checkpoint(small_folder)
    said: list[str] = []
    first = load_weights(checkpoint, precision, tmp_path, said.append)
    (path,) = tmp_path.iterdir()
    made = path.stat().st_mtime_ns
    second = load_weights(checkpoint, precision, tmp_path, said.append)
    assert [line.startswith("preparing") for line in said] == [True, False, False]
    assert path.stat().st_mtime_ns == made
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    head = "head.5.weight" if precision == "float32" else "head.5.codes"
    assert head in first
    table = checkpoint.read("depth_decoder.model.inputs_embeds_projector.weight")
    audio = checkpoint.read("backbone_model.embed_tokens.embed_audio_tokens.weight")
    folded = first["depth_embeddings"][:50].astype(np.float32)
    assert np.allclose(folded, audio[:50] @ table.T, rtol=0.01, atol=0.01)


def test_a_damaged_cache_is_one_sentence(small_folder, tmp_path):
    checkpoint = open_checkpoint(small_folder)
    load_weights(checkpoint, "int8", tmp_path, print)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(StartupError, match=r"damaged.*cut short.*delete the file"):
        check_cache(checkpoint, "int8", tmp_path)
    flipped = bytearray(whole)
    flipped[-500] ^= 1
    path.write_bytes(flipped)
    check_cache(checkpoint, "int8", tmp_path)
    with pytest.raises(StartupError, match=r"damaged.*checksum.*delete the file"):
        load_weights(checkpoint, "int8", tmp_path, print)


def test_another_checkpoint_has_another_cache(small_folder, tmp_path):
    checkpoint = open_checkpoint(small_folder)
    load_weights(checkpoint, "int8", tmp_path, print)
    weights = small_folder / "model.safetensors"
    times = weights.stat()
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    load_weights(checkpoint, "int8", tmp_path, print)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_one_sentence(small_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"cannot write the prepared weights.*--data-dir"):
        load_weights(open_checkpoint(small_folder), "int8", tmp_path / "file", print)
