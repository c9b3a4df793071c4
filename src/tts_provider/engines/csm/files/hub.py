"""CSM-1B's files, downloaded from the Hugging Face hub where they are not on the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.snapshot import (
    INDEXES,
    ModelFiles,
    check_weights,
    find_mimi,
    find_tokenizer,
)
from tts_provider.engines.hub import download as hub
from tts_provider.engines.hub.blob import RETRY, Retry
from tts_provider.engines.hub.cache import cache_name, read_ref
from tts_provider.errors import StartupError

# The layouts of weights, best first; a repository that has one is asked for no other.
_WEIGHTS = (
    ("transformers*.safetensors", INDEXES[0]),
    ("model-*-of-*.safetensors", INDEXES[1]),
    ("model.safetensors",),
    ("ckpt.pt",),
)
_REUSE = "--mode reuse --model-path FOLDER"
_BESIDE_THE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "prompts/*.wav",
)


def find_files(
    folder: Path, *, may_download: bool, on_progress: Callable[[str], None]
) -> ModelFiles:
    """Everything the model in `folder` needs. Raises `StartupError`."""

    def download(repository: str, names: tuple[str, ...]) -> Path:
        return _download(repository, names, on_progress)

    fetch = download if may_download else None
    return ModelFiles(folder, find_mimi(folder, fetch), find_tokenizer(folder, fetch))


def download_csm(
    on_progress: Callable[[str], None], revision: str = "main", retry: Retry = RETRY
) -> Path:
    """The snapshot of `sesame/csm-1b`, fetched where it is not complete.

    A complete one needs no network; one that lacks only prompts or the tokenizer is taken where
    the hub cannot be reached. Raises `StartupError`.
    """
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / cache_name(CSM_REPOSITORY)
    usable = None
    with contextlib.suppress(OSError, StartupError):
        snapshot = storage / "snapshots" / read_ref(storage, revision)
        check_weights(snapshot)
        usable = snapshot
    if usable and (usable / "tokenizer.json").is_file() and any(usable.glob("prompts/*.wav")):
        on_progress(f"{CSM_REPOSITORY} is here, in {usable}")
        return usable
    try:
        return _download(CSM_REPOSITORY, _BESIDE_THE_WEIGHTS, on_progress, revision, retry)
    except StartupError as error:
        if usable is None:
            raise
        on_progress(f"going on with what is here in {usable}: {error}")
        return usable


def _download(
    repository: str,
    patterns: tuple[str, ...],
    on_progress: Callable[[str], None],
    revision: str = "main",
    retry: Retry = RETRY,
) -> Path:
    """Fetch what `patterns` match, and for CSM the weights. Returns the snapshot."""

    def choose(names: Sequence[str]) -> tuple[str, ...]:
        weights = _choose_weights(names) if repository == CSM_REPOSITORY else ()
        return patterns + weights

    return hub.download(
        repository, choose, on_progress, reuse=_REUSE, revision=revision, retry=retry
    )


def _choose_weights(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    for layout in _WEIGHTS:
        if any(hub.matches(name, layout[:1]) for name in names):
            return layout
    raise StartupError(
        f"{CSM_REPOSITORY} on the hub has no weights that this version knows "
        f"({', '.join(layout[0] for layout in _WEIGHTS)}); look for a newer tts-provider"
    )
