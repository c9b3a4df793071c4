"""Tensors in files, memory-mapped and read when they are used."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tts_provider.errors import StartupError, UnreadableFile

_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
    "U8": np.dtype(np.uint8),  # our own prepared weights
}
_MAX_HEADER_BYTES = 100 * 1024 * 1024  # safetensors' own limit
_MAX_DIMENSIONS = 8
_SAMPLED_START_BYTES = 1024 * 1024  # the header and the first tensors
_SAMPLES, _SAMPLE_BYTES = 512, 4096


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, read when asked for."""

    source: Path
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    also: tuple[Path, ...] = ()
    """Other files that its values depend on."""
    problem: str | None = None
    """Why it cannot be read, a sentence; None where it can."""


def read_finite(name: str, tensor: Tensor) -> np.ndarray:
    """The tensor as stored. Raises `StartupError` where it has values that are no numbers."""
    array = tensor.read()
    # One piece at a time: a table of a gigabyte needs no copy of a gigabyte.
    for start in range(0, len(array), 4096):
        if not np.isfinite(array[start : start + 4096].astype(np.float32)).all():
            raise StartupError(
                f"{tensor.source}: tensor {name} holds values that are not numbers; "
                "download the model again"
            )
    return array


def files_key(tensors: Mapping[str, Tensor], *facts: object) -> str:
    """Names these files as they are now, and whatever else matters: 16 hexadecimal digits."""
    paths = {path for tensor in tensors.values() for path in (tensor.source, *tensor.also)}
    files = sorted({path.resolve() for path in paths})
    about = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns, _sampled_digest(path))
        for path in files
    ]
    return hashlib.sha256(json.dumps([about, *facts], sort_keys=True).encode()).hexdigest()[:16]


def _sampled_digest(path: Path) -> str:
    """Of a file's start and of pieces from all over it: another file of the same size and time (a
    restored archive, a synchronized folder) is told apart without reading gigabytes."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLED_START_BYTES))
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, and of itself under `__metadata__`.

    https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header, the data.
    Raises `StartupError`.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            header_bytes = int.from_bytes(start, "little")
            if start[:4] == b"GGUF":
                raise ValueError("it is a GGUF file, not safetensors")
            if size < 8 or header_bytes > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("the file is cut short")
            header = json.loads(file.read(header_bytes))
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read ({error}); download it again") from None
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path} cannot be read ({error}); download it again") from None
    if not isinstance(header, dict):
        raise StartupError(f"{path} cannot be read (its header is no object); download it again")
    return header


def read_metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself. Raises `StartupError`."""
    metadata = read_header(path).get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, memory-mapped; the header is checked against the file's size.

    Our own reader because the library's cannot map bfloat16 into numpy. Raises `StartupError`; a
    tensor of a type that this engine does not know has a `problem` instead.
    """
    header = read_header(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        data_start = 8 + int.from_bytes(file.read(8), "little")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape = entry["dtype"], tuple(map(int, entry["shape"]))
            start, end = map(int, entry["data_offsets"])
            if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
                raise ValueError("no shape")
        except (KeyError, TypeError, ValueError, OverflowError):
            raise StartupError(
                f"{path}: tensor {name[:120]} is described as {str(entry)[:80]}, which this engine "
                "cannot read"
            ) from None
        if data_start + end > size:
            raise StartupError(
                f"{path} is cut short at {size} bytes, tensor {name[:120]} ends at "
                f"{data_start + end}; download it again"
            )
        dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
        if dtype is None:
            tensors[name] = _unreadable(
                path,
                shape,
                f"{path}: tensor {name[:120]} has the type {str(kind)[:20]}, which this engine "
                f"cannot read: it knows {', '.join(list(_DTYPES)[:3])}; use the model before it "
                "was quantized",
            )
            continue
        if end - start != math.prod(shape) * dtype.itemsize or start < 0:
            raise StartupError(f"{path}: tensor {name[:120]} has a wrong size; download it again")
        tensors[name] = Tensor(path, shape, _mapped(path, dtype, shape, data_start + start))
    return tensors


def _mapped(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int
) -> Callable[[], np.ndarray]:
    if math.prod(shape) == 0:  # nothing to map, which `mmap` refuses
        return lambda: np.empty(shape, dtype)
    return lambda: np.memmap(path, dtype, "r", offset, shape)


def _unreadable(path: Path, shape: tuple[int, ...], problem: str) -> Tensor:
    def read() -> np.ndarray:
        raise StartupError(problem)

    return Tensor(path, shape, read, problem=problem)
