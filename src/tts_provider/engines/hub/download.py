"""Downloads a repository's files from the Hugging Face hub if they are not on the disk.

The hub's own client lists the files, and they are kept as it keeps them; blob.py fetches them.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tts_provider.engines.hub.blob import RETRY, WORTH_A_LINE_BYTES, Blob, Retry, fetch_blob
from tts_provider.engines.hub.cache import cache_name
from tts_provider.engines.hub.refusals import check_space, in_plain_words, in_units
from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Choose = Callable[[Sequence[str]], Iterable[str]]
"""The names of a repository's files → patterns of those that are wanted."""


def download(
    repository: str,
    choose: Choose,
    on_progress: Callable[[str], None],
    *,
    reuse: str,
    revision: str = "main",
    retry: Retry = RETRY,
) -> Path:
    """Fetch what the chosen patterns match. Returns the snapshot. `reuse` are the flags that use
    files that are here, for errors.

    Raises `StartupError`.
    """
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / cache_name(repository)
    with in_plain_words(repository, revision, storage, reuse):
        commit, files = _list(repository, revision)
        patterns = tuple(choose([file.rfilename for file in files]))
        wanted = [
            Blob(repository, commit, storage, file)
            for file in files
            if matches(file.rfilename, patterns)
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


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Match like a shell: a star stays in its folder, so that no name leads out of the snapshot."""
    return "\\" not in name and any(
        fnmatch.fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")
        for pattern in patterns
    )


def _write_ref(path: Path, commit: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(commit, "utf-8")
    fresh.replace(path)
