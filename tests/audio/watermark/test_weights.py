from __future__ import annotations

import collections
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lazy_import import lazy_import
from tts_provider.audio.watermark import weights as module
from tts_provider.audio.watermark.weights import read_checkpoint, read_weights
from tts_provider.errors import StartupError

torch = lazy_import("torch")


def written(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_what_torch_writes_is_read_as_torch_reads_it():
    tensors = {"a": torch.randn(3, 4, 5), "b": torch.arange(7.0)}
    read = read_checkpoint(written({"model": collections.OrderedDict(tensors), "step": 12}))
    assert read["step"] == 12
    assert list(read["model"]) == ["a", "b"]
    for name, tensor in tensors.items():
        assert np.array_equal(read["model"][name], tensor.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(3),
        lambda: torch.ones(2, 3).T,
        lambda: torch.nn.Linear(1, 1),
        lambda: Path("x"),
    ],
    ids=["integers", "transposed", "a module", "a path"],
)
def test_anything_but_whole_float32_tensors_is_refused(make):
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(written(make()))


def test_a_pickle_that_would_run_something_runs_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir is no part of a tensor"):
        read_checkpoint(file.getvalue())
    assert not (tmp_path / "ran").exists()


class Distribution:
    """An installed package in another folder."""

    def __init__(self, folder: Path, version: str) -> None:
        self.version = version
        self._folder = folder

    def locate_file(self, name: str) -> Path:
        return self._folder / name


def test_a_damaged_file_and_another_version_are_one_sentence(tmp_path, monkeypatch):
    found = module.importlib.metadata.distribution("resemble-perth")
    copy = tmp_path / module._FILE
    copy.parent.mkdir(parents=True)
    shutil.copy(str(found.locate_file(module._FILE)), copy)
    fake = Distribution(tmp_path, found.version)
    monkeypatch.setattr(module.importlib.metadata, "distribution", lambda _: fake)
    assert len(read_weights()) > 50
    with copy.open("r+b") as file:
        file.seek(20_000_000)
        file.write(b"\1\2\3\4")
    with pytest.raises(StartupError, match="is damaged: pip install resemble-perth"):
        read_weights()
    copy.unlink()
    with pytest.raises(StartupError, match="cannot be read"):
        read_weights()
    fake.version = "9.0"
    with pytest.raises(StartupError, match=r"needs resemble-perth 1\.0\.1, but 9\.0"):
        read_weights()
