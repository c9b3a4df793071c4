"""Keeps Kokoro's graph on the disk as it was cut, so that it is cut once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tts_provider.errors import StartupError

VERSION = 2
"""Of what is made of a graph. Statistics of another version are of other samples."""

_CHUNK_BYTES = 1024 * 1024
_PARTS = ("encoder.onnx", "harmonics.onnx", "generator.onnx")
_FACTS = "facts.json"  # written last: where it is, all is


@dataclass(frozen=True)
class Prepared:
    folder: Path
    """Holds the parts, and the statistics of the voices that spoke."""
    norms: int

    @property
    def encoder(self) -> Path:
        return self.folder / _PARTS[0]

    @property
    def harmonics(self) -> Path:
        return self.folder / _PARTS[1]

    @property
    def generator(self) -> Path:
        return self.folder / _PARTS[2]


def prepare(
    graph: Path, place: Path, on_progress: Callable[[str], None], sha256: str | None = None
) -> Prepared:
    """The parts of `graph`, in a folder of `place` that is called after its contents.

    Raises `StartupError` where it cannot be read, is not Kokoro's, has another hash than `sha256`,
    or the disk refuses.
    """
    digest = _digest(graph)
    if sha256 is not None and digest != sha256:
        raise StartupError(
            f"{graph} is damaged: its SHA-256 is {digest} and not {sha256}; remove it, and start "
            "again"
        )
    folder = place / f"{digest[:16]}-v{VERSION}"
    facts = folder / _FACTS
    try:
        if not facts.exists():
            on_progress(f"preparing {graph.name}")
            _prepare(graph, folder)
        return Prepared(folder, int(json.loads(facts.read_text("utf-8"))["norms"]))
    except OSError as error:
        raise StartupError(f"cannot write to {folder} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        raise StartupError(f"{facts} is damaged; remove {folder}, and start again") from None


def prune(place: Path, *, everything: bool = False) -> list[tuple[Path, int]]:
    """Remove what another version of this program has prepared in `place`, or everything. Returns
    the removed folders, with their bytes."""
    removed = list[tuple[Path, int]]()
    for folder in sorted(place.glob("*-v*")):
        if everything or not folder.name.endswith(f"-v{VERSION}"):
            size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(folder, ignore_errors=True)
            removed.append((folder, size_bytes))
    return removed


def _prepare(graph: Path, folder: Path) -> None:
    from tts_provider.engines.kokoro.network.cut import cut

    try:
        parts = cut(graph.read_bytes())
    except StartupError as error:
        raise StartupError(f"{graph}: {error}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, part in zip(
            _PARTS, (parts.encoder, parts.harmonics, parts.generator), strict=True
        ):
            (fresh / name).write_bytes(part)
        (fresh / _FACTS).write_text(json.dumps({"norms": parts.norms}), "utf-8")
        if not (folder / _FACTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another server was quicker, and made the same
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise StartupError(f"{path} cannot be read ({error.strerror})") from None
    return digest.hexdigest()
