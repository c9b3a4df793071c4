"""The model's files, downloaded from the Hugging Face hub where they are not on the disk.

A repository is listed by the hub's own client and kept as it keeps it; blob.py fetches.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.blob import RETRY, WORTH_A_LINE_BYTES, Blob, Retry, fetch_blob
from tts_provider.engines.csm.files.refusals import check_space, in_plain_words, in_units
from tts_provider.engines.csm.files.snapshot import (
    INDEXES,
    ModelFiles,
    cache_name,
    check_weights,
    find_mimi,
    find_tokenizer,
    read_ref,
)
from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# The layouts of weights, best first; a repository that has one is asked for no other.
_WEIGHTS = (
    ("transformers*.safetensors", INDEXES[0]),
    ("model-*-of-*.safetensors", INDEXES[1]),
    ("model.safetensors",),
    ("ckpt.pt",),
)
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
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / cache_name(repository)
    with in_plain_words(repository, revision, storage):
        commit, files = _list(repository, revision)
        if repository == CSM_REPOSITORY:
            patterns += _choose_weights(file.rfilename for file in files)
        wanted = [
            Blob(repository, commit, storage, file)
            for file in files
            if _matches(file.rfilename, patterns)
        ]
        blobs = [blob for blob in wanted if not blob.is_linked]
        check_space(storage, sum(blob.missing_bytes for blob in blobs))
        for number, blob in enumerate(blobs, 1):
            if blob.size >= WORTH_A_LINE_BYTES:
                on_progress(
                    f"downloading {blob.name} of {repository} ({in_units(blob.missing_bytes)} of "
                    f"{in_units(blob.size)} to go, file {number} of {len(blobs)})"
                )
            fetch_blob(blob, retry)
        # Last: what a ref names is complete, and an interrupted update leaves the old one.
        _write_ref(storage / "refs" / revision, commit)
    return storage / "snapshots" / commit


def _list(repository: str, revision: str) -> tuple[str, list[RepoSibling]]:
    """The commit that `revision` is, and its files."""
    from huggingface_hub import HfApi, constants

    try:
        info = HfApi().model_info(
            repository,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
        if info.siblings is None or not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
            raise ValueError("no files, or no commit")
    except UnicodeEncodeError:  # of a header: nothing was asked yet
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StartupError(
            f"{constants.ENDPOINT} does not answer as a Hugging Face hub does; is HF_ENDPOINT "
            "right, or does a proxy or sign-in page stand in between?"
        ) from None
    return str(info.sha), info.siblings


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Like a shell: a star stays in its folder, so that no name leads out of the snapshot."""
    return "\\" not in name and any(
        fnmatch.fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")
        for pattern in patterns
    )


def _choose_weights(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    for layout in _WEIGHTS:
        if any(_matches(name, layout[:1]) for name in names):
            return layout
    raise StartupError(
        f"{CSM_REPOSITORY} on the hub has no weights that this version knows "
        f"({', '.join(layout[0] for layout in _WEIGHTS)}); look for a newer tts-provider"
    )


def _write_ref(path: Path, commit: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(commit, "utf-8")
    fresh.replace(path)
