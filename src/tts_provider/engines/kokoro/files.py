"""Kokoro's files: a graph and its voices, in a folder, in the hub's cache, or from the hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tts_provider.engines.hub.blob import RETRY, Retry
from tts_provider.engines.hub.cache import cache_name
from tts_provider.engines.hub.download import download
from tts_provider.engines.kokoro import KOKORO_REPOSITORY
from tts_provider.engines.kokoro.voices import GAINS, NAME, PACK_BYTES
from tts_provider.errors import StartupError

log = logging.getLogger(__name__)

REVISION = "1939ad2a8e416c0acfeecc08a694d14ef25f2231"
"""The commit of the hub's repository that this version knows; the hub lists its files' hashes."""

REUSE = "--kokoro-path FOLDER"


@dataclass(frozen=True)
class _Graph:
    name: str
    """In the repository."""
    size_bytes: int
    sha256: str


_GRAPHS: Mapping[str, _Graph] = {
    "int8": _Graph(
        "onnx/model_quantized.onnx",
        92_361_116,
        "fbae9257e1e05ffc727e951ef9b9c98418e6d79f1c9b6b13bd59f5c9028a1478",
    ),
    "float32": _Graph(
        "onnx/model.onnx",
        325_532_232,
        "8fbea51ea711f2af382e88c833d9e288c6dc82ce5e98421ea61c058ce21a34cb",
    ),
}
PRECISIONS = tuple(_GRAPHS)

# Of graphs in a plain folder; the size tells where the name does not.
_QUANTIZED = ("int8", "quantized", "q8", "uint8")
_QUANTIZED_BYTES = 150_000_000


@dataclass(frozen=True)
class KokoroFiles:
    graph: Path
    voices: Mapping[str, Path]
    """By name; at least one."""
    sha256: str | None = None
    """What the graph's is, where that is known."""


def find_folder(folder: Path, precision: str, wanted: Sequence[str] = ()) -> KokoroFiles:
    """What a folder that a user named holds: `*.onnx`, in it or in `onnx/`, and `voices/*.bin`.

    Raises `StartupError` saying what is missing.
    """
    try:
        if not folder.is_dir():
            reason = "is a file, not a folder" if folder.is_file() else "does not exist"
            raise StartupError(f"--kokoro-path {folder} {reason}; {_WHAT_IT_HOLDS}")
        graphs = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
        if not graphs:
            raise StartupError(f"--kokoro-path {folder} has no *.onnx; {_WHAT_IT_HOLDS}")
        able = [graph for graph in graphs if _precision_of(graph) == precision]
        if not able:
            raise StartupError(
                f"--kokoro-path {folder} has no graph of {precision}, only "
                f"{', '.join(graph.name for graph in graphs)}; --kokoro-precision chooses"
            )
        return KokoroFiles(able[0], _find_voices(folder, wanted))
    except OSError as error:
        raise StartupError(f"--kokoro-path {folder} cannot be read ({error.strerror})") from error


_WHAT_IT_HOLDS = (
    "it is a folder with a Kokoro-82M graph (*.onnx) and its voices (voices/NAME.bin); "
    "docs/voices.md tells how to fill one"
)


def _precision_of(graph: Path) -> str:
    name = graph.stem.lower()
    if any(word in name for word in _QUANTIZED):
        return "int8"
    return "int8" if graph.stat().st_size < _QUANTIZED_BYTES else "float32"


def _find_voices(folder: Path, wanted: Sequence[str]) -> dict[str, Path]:
    found = dict[str, Path]()
    for path in sorted(folder.glob("voices/*.bin")):
        if not NAME.fullmatch(path.stem):
            log.warning("%s is left out: the name of a voice is like af_heart", path)
        elif path.stat().st_size != PACK_BYTES:
            log.warning("%s is left out: a voice must have %d bytes", path, PACK_BYTES)
        else:
            found[path.stem] = path
    if missing := [name for name in wanted if name not in found]:
        raise StartupError(
            f"{folder} has no voice {missing[0]!r} of TTS_PROVIDER_KOKORO_VOICES; it has "
            f"{', '.join(found) or 'none'}"
        )
    if not found:
        raise StartupError(f"{folder} has no voices/*.bin of Kokoro-82M; {_WHAT_IT_HOLDS}")
    return {name: found[name] for name in wanted} if wanted else found


def find_cached(cache: Path, precision: str, wanted: Sequence[str] = ()) -> KokoroFiles | None:
    """This version's files in the hub's cache; None if they are not complete."""
    snapshot = cache / cache_name(KOKORO_REPOSITORY) / "snapshots" / REVISION
    graph = snapshot / _GRAPHS[precision].name
    try:
        if graph.stat().st_size != _GRAPHS[precision].size_bytes:
            return None
        voices = _find_voices(snapshot, wanted or tuple(GAINS))
        return KokoroFiles(graph, voices, _GRAPHS[precision].sha256)
    except (OSError, StartupError):
        return None


def fetch(
    precision: str,
    wanted: Sequence[str],
    on_progress: Callable[[str], None],
    *,
    revision: str = REVISION,
    retry: Retry = RETRY,
) -> KokoroFiles:
    """The graph and the voices, all of them or those that are wanted, from the hub. Needs no token.

    Raises `StartupError`.
    """
    graph = _GRAPHS[precision]

    def choose(names: Sequence[str]) -> list[str]:
        voices = [f"voices/{name}.bin" for name in wanted]
        if missing := [name for name in (graph.name, *voices) if name not in names]:
            raise StartupError(f"{KOKORO_REPOSITORY} on the hub has no {missing[0]}")
        return [graph.name, *(voices or ["voices/*.bin"])]

    snapshot = download(
        KOKORO_REPOSITORY, choose, on_progress, reuse=REUSE, revision=revision, retry=retry
    )
    return KokoroFiles(snapshot / graph.name, _find_voices(snapshot, wanted), graph.sha256)
