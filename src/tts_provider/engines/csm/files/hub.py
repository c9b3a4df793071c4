"""Downloads CSM-1B's files from the Hugging Face hub if they are not on the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LAYOUTS
from tts_provider.engines.csm.files.snapshot import (
    ModelFiles,
    check_model,
    find_mimi,
    find_tokenizer,
)
from tts_provider.engines.hub import download as hub
from tts_provider.engines.hub.blob import RETRY, Retry
from tts_provider.engines.hub.cache import cache_name, read_ref
from tts_provider.errors import StartupError

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
    """Find everything that the model in `folder` needs. Raises `StartupError`."""

    def download(repository: str, names: tuple[str, ...]) -> Path:
        return _download(repository, names, on_progress)

    fetch = download if may_download else None
    return ModelFiles(folder, find_mimi(folder, fetch), find_tokenizer(folder, fetch))


def download_csm(
    on_progress: Callable[[str], None], revision: str = "main", retry: Retry = RETRY
) -> Path:
    """`download_model` of `sesame/csm-1b`."""
    return download_model(CSM_REPOSITORY, on_progress, revision, retry)


def download_model(
    repository: str,
    on_progress: Callable[[str], None],
    revision: str = "main",
    retry: Retry = RETRY,
) -> Path:
    """The snapshot of a model or an adapter, fetched where it is not complete.

    A complete one needs no network; one that lacks only prompts or the tokenizer is taken where
    the hub cannot be reached. Raises `StartupError`.
    """
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / cache_name(repository)
    usable = None
    with contextlib.suppress(OSError, StartupError):
        snapshot = storage / "snapshots" / read_ref(storage, revision)
        check_model(snapshot)
        usable = snapshot
    # Fine-tunes have no prompts, and the tokenizer is available elsewhere.
    if usable and (
        repository != CSM_REPOSITORY
        or ((usable / "tokenizer.json").is_file() and any(usable.glob("prompts/*.wav")))
    ):
        on_progress(f"{repository} is in {usable}")
        return usable
    try:
        return _download(
            repository, _BESIDE_THE_WEIGHTS, on_progress, revision, retry, is_model=True
        )
    except StartupError as error:
        if usable is None:
            raise
        on_progress(f"using the files in {usable}: {error}")
        return usable


def _download(
    repository: str,
    patterns: tuple[str, ...],
    on_progress: Callable[[str], None],
    revision: str = "main",
    retry: Retry = RETRY,
    *,
    is_model: bool = False,
) -> Path:
    """Fetch what `patterns` match, and of a model the weights. Returns the snapshot."""

    def choose(names: Sequence[str]) -> tuple[str, ...]:
        return patterns + (_choose_weights(repository, names) if is_model else ())

    return hub.download(
        repository, choose, on_progress, reuse=_REUSE, revision=revision, retry=retry
    )


def _choose_weights(repository: str, names: Sequence[str]) -> tuple[str, ...]:
    """The files that layout.py would read, of those a repository has."""
    own = [name for name in names if "/" not in name]
    if ADAPTER_WEIGHTS in own:
        adapter: tuple[str, ...] = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    else:
        adapter = ()
    for layout in LAYOUTS:
        if any(hub.matches(name, layout.files[:1]) for name in own):
            return (*layout.files, *adapter)
    if adapter:
        return adapter
    single = [name for name in own if name.endswith(".safetensors")]
    if len(single) == 1:
        return (single[0],)
    there = ", ".join(sorted(own)[:5])[:200] or "no files"
    raise StartupError(
        f"{repository} on the hub has no weights that this version knows "
        f"({', '.join(layout.files[0] for layout in LAYOUTS)}, {ADAPTER_WEIGHTS}); it has {there}: "
        "choose the model that it was made from"
    )
