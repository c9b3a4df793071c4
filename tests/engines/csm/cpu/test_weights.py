"""The cache of prepared weights: made once, checked, replaced when the checkpoint changes."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.cpu.policy import POLICIES
from tts_provider.engines.csm.cpu.quantize import Blocks
from tts_provider.engines.csm.cpu.weights import load_weights, prepared_arrays
from tts_provider.engines.csm.files.checkpoint import (
    Checkpoint,
    expected_shapes,
    open_checkpoint,
)
from tts_provider.engines.csm.files.tensors import Tensor
from tts_provider.engines.csm.onnx.language import bytes_a_frame
from tts_provider.errors import StartupError


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_made_once_and_read_afterwards(small_folder, tmp_path, precision):
    checkpoint = open_checkpoint(small_folder)
    said: list[str] = []
    first = load_weights(checkpoint, precision, tmp_path, said.append)
    (path,) = tmp_path.glob("*.safetensors")
    made = path.stat().st_ino
    second = load_weights(checkpoint, precision, tmp_path, said.append)
    assert said == [
        f"preparing {precision} weights, once",
        *2 * [f"reading {precision} weights"],
    ]
    assert path.stat().st_ino == made
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    head = "head.5.weight" if precision == "float32" else "head.5.codes"
    assert head in first
    table = checkpoint.read("depth_decoder.model.inputs_embeds_projector.weight")
    audio = checkpoint.read("backbone_model.embed_tokens.embed_audio_tokens.weight")
    folded = first["depth_embeddings"][:50].astype(np.float32)
    assert np.allclose(folded, audio[:50] @ table.T, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-1000], "checksum is wrong"),
        (lambda whole: whole[:-500] + bytes([whole[-500] ^ 1]) + whole[-499:], "checksum is wrong"),
        (lambda whole: b"", "Expecting value"),
        (lambda whole: b"\xff" * 100, ""),
    ],
    ids=["cut short", "a bit", "empty", "nothing of it"],
)
def test_a_damaged_file_is_made_anew(small_folder, tmp_path, damage, words):
    checkpoint = open_checkpoint(small_folder)
    load_weights(checkpoint, "int8", tmp_path, print)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    said: list[str] = []
    load_weights(checkpoint, "int8", tmp_path, said.append)
    assert path.read_bytes() == whole
    assert any(
        line.startswith(f"the prepared weights {path} are damaged (") and words in line
        for line in said
    )


def test_another_checkpoint_has_another_cache(small_folder, tmp_path):
    checkpoint = open_checkpoint(small_folder)
    load_weights(checkpoint, "int8", tmp_path, print)
    weights = small_folder / "model.safetensors"
    times = weights.stat()
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    load_weights(checkpoint, "int8", tmp_path, print)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_other_contents_of_the_same_size_and_time_are_another_model(small_folder, tmp_path):
    folder = Path(shutil.copytree(small_folder, tmp_path / "model"))
    weights = folder / "model.safetensors"
    load_weights(open_checkpoint(folder), "int8", tmp_path / "cache", print)
    times, body = weights.stat(), bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(body[:8], "little")
    for at in range(start + 3, len(body), 4096):  # every number's exponent, here and there
        body[at] ^= 1
    weights.write_bytes(body)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    load_weights(open_checkpoint(folder), "int8", tmp_path / "cache", print)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


def test_a_folder_that_cannot_be_written_is_one_sentence(small_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"cannot write the prepared weights.*--data-dir"):
        load_weights(open_checkpoint(small_folder), "int8", tmp_path / "file", print)


def test_another_policy_has_another_cache(small_folder, tmp_path, monkeypatch):
    checkpoint = open_checkpoint(small_folder)
    load_weights(checkpoint, "int4", tmp_path, print)
    int4 = POLICIES["int4"]
    other = replace(int4.backbone, attention=Blocks(4, 64))
    monkeypatch.setitem(POLICIES, "int4", replace(int4, backbone=other))
    load_weights(checkpoint, "int4", tmp_path, print)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def full_size() -> Checkpoint:
    """CSM-1B's names and shapes, without a number in it."""

    def nothing() -> np.ndarray:
        raise AssertionError("the shapes alone are asked for")

    tensors = {
        name: Tensor(Path("full-size"), shape, nothing)
        for name, shape in expected_shapes(CSM_1B).items()
    }
    return Checkpoint(CSM_1B, tensors, {})


def count_bytes(precision) -> dict[str, int]:
    arrays = prepared_arrays(full_size(), precision)
    # `empty` takes addresses and no memory; the graphs' builder does not look inside.
    weights = {name: np.empty(shape, dtype) for name, (dtype, shape) in arrays.items()}
    return bytes_a_frame(CSM_1B, weights)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reserves memory for empty arrays")
def test_a_frame_reads_what_the_documentation_says():
    assert sum(count_bytes("int4").values()) <= 2.6e9
    assert sum(count_bytes("int8").values()) <= 4.9e9
