"""The model's files on the disk: which folder, whether it is complete, tokenizer and codec.

Files lie as the hub's own client keeps them (https://huggingface.co/docs/hub/local-cache):
`models--OWNER--NAME/{refs/main, snapshots/COMMIT/…, blobs/…}`, or in a plain folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    find_weight_files,
    has_weights,
    is_adapter,
    is_there,
)
from tts_provider.engines.csm.files.names import plain_name
from tts_provider.engines.csm.files.tensors import read_safetensors
from tts_provider.engines.hub.cache import cache_name, read_ref
from tts_provider.errors import StartupError

MIMI_REPOSITORY = "kyutai/mimi"
TOKENIZER_REPOSITORY = "unsloth/Llama-3.2-1B"

# Other places where a Llama 3.2 tokenizer may already be.
_TOKENIZER_REPOSITORIES = (TOKENIZER_REPOSITORY, CSM_REPOSITORY, "meta-llama/Llama-3.2-1B")

Fetch = Callable[[str, tuple[str, ...]], Path]
"""A repository and names of files in it → the folder that holds them."""


@dataclass(frozen=True)
class ModelFiles:
    folder: Path
    """Holds the weights: a snapshot of the hub, or a plain folder."""
    mimi: Path | None
    """Holds the codec where the weights bring none."""
    tokenizer: Path
    """`tokenizer.json`."""
    adapter: Path | None = None
    """Holds the LoRA adapter that is merged into the weights."""


# The weights


def resolve_model_path(path: Path) -> Path:
    """The folder that holds the weights or an adapter, from what a user gave as `--model-path`.

    A plain folder and a snapshot are taken as they are; of a folder of the hub's cache, the
    snapshot that `refs/main` names, else the newest complete one. Raises `StartupError`.
    """
    try:
        if not path.exists():
            reason = "is a link to nothing" if path.is_symlink() else "does not exist"
            raise StartupError(f"--model-path {path} {reason}; {_GIVE_A_FOLDER}")
        if not path.is_dir():
            raise StartupError(
                f"--model-path {path} is a file; give the folder that holds it: {path.parent}"
            )
        name = cache_name(CSM_REPOSITORY)
        own = path.parent if path.name == "snapshots" else path
        for repository in (own, path / name, path / "hub" / name):
            if any((repository / part).is_dir() for part in ("blobs", "snapshots")):
                return _complete_snapshot(repository)
        if not any(path.iterdir()):
            raise StartupError(f"--model-path {path} is empty; {_GIVE_A_FOLDER}")
        check_model(path)
    except OSError as error:
        raise StartupError(f"--model-path {path} cannot be read ({error.strerror})") from error
    return path


_GIVE_A_FOLDER = f"give a folder of {CSM_REPOSITORY}, or fetch it with --mode download"


def _complete_snapshot(repository: Path) -> Path:
    snapshots = [folder for folder in (repository / "snapshots").glob("*") if folder.is_dir()]
    if not snapshots:
        raise StartupError(f"--model-path {repository} holds no snapshot yet; {_GIVE_A_FOLDER}")
    main = read_ref(repository, "main")
    snapshots.sort(key=lambda folder: (folder.name == main, folder.stat().st_mtime), reverse=True)
    problems = []
    for snapshot in snapshots:
        try:
            check_model(snapshot)
        except StartupError as error:
            problems.append(error)
        else:
            return snapshot
    raise problems[0]


def check_model(folder: Path) -> None:
    """Raises `StartupError` if `folder` holds neither a complete model nor an adapter of one."""
    if not is_adapter(folder) or has_weights(folder):
        check_weights(folder)
        return
    weights = folder / ADAPTER_WEIGHTS
    # A pickle is refused with its own message when it is read.
    if not is_there(weights) and not weights.with_suffix(".bin").exists():
        raise StartupError(
            f"{folder} is not complete: it has {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}; copy the "
            "adapter again, or fetch it with --mode download"
        )


def check_weights(folder: Path) -> set[str]:
    """The names of the tensors (none for a pickle) of the weights in `folder`.

    Raises `StartupError` where there are none or a part of them has not arrived. Reads headers
    only.
    """
    names: set[str] = set()
    for path in find_weight_files(folder).paths:
        if path.suffix != ".pt":
            names |= {plain_name(name) for name in read_safetensors(path)}
    return names


# Tokenizer and codec


def find_tokenizer(folder: Path, fetch: Fetch | None = None) -> Path:
    """`tokenizer.json` of the model in `folder`: there, in the hub's cache, or by `fetch`.

    Every copy of Llama 3.2's tokenizer is the same. Raises `StartupError`.
    """
    name = "tokenizer.json"
    if is_there(folder / name):
        return folder / name
    for repository in _TOKENIZER_REPOSITORIES:
        for snapshot in _cached_snapshots(folder, repository):
            if (snapshot / name).is_file():
                return snapshot / name
    if fetch is None:
        raise StartupError(
            f"{folder} has no {name}; put the one of {TOKENIZER_REPOSITORY} there "
            f"(hf download {TOKENIZER_REPOSITORY} {name} --local-dir {folder})"
        )
    return fetch(TOKENIZER_REPOSITORY, (name,)) / name


def find_mimi(folder: Path, fetch: Fetch | None = None) -> Path | None:
    """The folder of the codec, or None where the weights in `folder` bring it.

    Looked for in `folder/mimi`, in the hub's cache, then by `fetch`. Raises `StartupError`.
    """
    if any(name.startswith("codec_model.") for name in check_weights(folder)):
        return None
    needed = ("config.json", "model.safetensors")
    for place in (folder / "mimi", *_cached_snapshots(folder, MIMI_REPOSITORY)):
        if all((place / name).is_file() for name in needed):
            check_weights(place)
            return place
    if fetch is None:
        raise StartupError(
            f"the weights in {folder} bring no codec, and {MIMI_REPOSITORY} is not here; put its "
            f"files beside them (hf download {MIMI_REPOSITORY} {' '.join(needed)} "
            f"--local-dir {folder / 'mimi'})"
        )
    return fetch(MIMI_REPOSITORY, needed)


def find_cached(repository: str, revision: str = "main") -> Path | None:
    """The snapshot of a repository in the hub's cache; None if there is none.

    Raises `StartupError` if it is there but not complete.
    """
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / cache_name(repository)
    if not (storage / "snapshots").is_dir():
        return None
    if revision == "main":
        return _complete_snapshot(storage)
    snapshot = storage / "snapshots" / read_ref(storage, revision)
    if not snapshot.is_dir():
        return None
    check_model(snapshot)
    return snapshot


def _cached_snapshots(folder: Path, repository: str) -> Iterator[Path]:
    """Snapshots in the cache that `folder` is a snapshot in, and in the hub's own."""
    from huggingface_hub import constants

    caches = [Path(constants.HF_HUB_CACHE)]
    if folder.parent.name == "snapshots":
        caches.insert(0, folder.parent.parent.parent)
    for cache in caches:
        yield from sorted((cache / cache_name(repository) / "snapshots").glob("*"), reverse=True)
