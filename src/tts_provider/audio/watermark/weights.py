"""Reads the weights of Perth's network from the package resemble-perth.

The package's own code is never imported, because it needs torch. Its file is a zip of raw numbers
and of a pickle that names them; here the pickle may name nothing but tensors.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tts_provider.errors import StartupError

VERSION = "1.0.1"
_PACKAGE = "resemble-perth"
INSTALL = f"pip install {_PACKAGE}=={VERSION}"
_FILE = "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar"
_SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"

Weights = dict[str, npt.NDArray[np.float32]]


def is_installed() -> bool:
    """Whether any version of the package is installed."""
    try:
        importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def read_weights() -> Weights:
    """Read names → arrays, 37 MB. Raises `StartupError` if the package is missing, damaged or of
    another version."""
    try:
        found = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise StartupError(f"{_PACKAGE}, which has the watermark, is missing: {INSTALL}") from None
    if found.version != VERSION:
        raise StartupError(
            f"the watermark needs {_PACKAGE} {VERSION}, but {found.version} is installed: {INSTALL}"
        )
    path = Path(str(found.locate_file(_FILE)))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartupError(
            f"the watermark's file {path} cannot be read ({error.strerror}): {INSTALL}"
        ) from None
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise StartupError(f"the watermark's file {path} is damaged: {INSTALL} --force-reinstall")
    weights: Weights = read_checkpoint(data)["model"]
    return weights


def read_checkpoint(data: bytes) -> Any:
    """Read dictionaries, numbers and float32 tensors that `torch.save` wrote.

    If the file names anything else, raises `pickle.UnpicklingError` before any of it runs.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise pickle.UnpicklingError("no data.pkl in it, as torch.save writes one")
        folder = pickles[0].removesuffix("data.pkl")
        return _Unpickler(archive, folder, archive.read(pickles[0])).load()


class _FloatStorage:
    """Stands for torch's name of a row of float32."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[str, type | Callable[..., Any]] = {
            "collections.OrderedDict": OrderedDict,
            "torch.FloatStorage": _FloatStorage,
            "torch._utils._rebuild_tensor_v2": _tensor,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return allowed[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> npt.NDArray[np.float32]:
        # ("storage", its type, its file's name, the device it was on, how many numbers)
        _, kind, name, _, count = pid
        if kind is not _FloatStorage:
            raise pickle.UnpicklingError("numbers that are not float32")
        numbers = np.frombuffer(self._archive.read(f"{self._folder}data/{name}"), "<f4")
        if len(numbers) != count:
            raise pickle.UnpicklingError(f"{len(numbers)} numbers where {count} are announced")
        return numbers


def _tensor(
    storage: npt.NDArray[np.float32],
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    *_: Any,
) -> npt.NDArray[np.float32]:
    numbers = storage[offset : offset + int(np.prod(shape))].reshape(shape)
    if tuple(step // numbers.itemsize for step in numbers.strides) != tuple(stride):
        raise pickle.UnpicklingError("a tensor that does not lie in one piece")
    return numbers
