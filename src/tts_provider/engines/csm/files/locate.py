"""Finds the files that a user asks for: a model, and its adapter if there is one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tts_provider.config import Settings
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.adapter import is_repository, read_adapter_base
from tts_provider.engines.csm.files.hub import download_model, find_files
from tts_provider.engines.csm.files.layout import has_weights, is_adapter, newest_checkpoint
from tts_provider.engines.csm.files.snapshot import (
    ModelFiles,
    check_weights,
    find_cached,
    resolve_model_path,
)
from tts_provider.errors import StartupError

log = logging.getLogger(__name__)

Report = Callable[[str], None]

_PLAIN = re.compile(r"(sesame[-_]+)?csm([-_]?1b)?", re.IGNORECASE)
_CHECKPOINT = re.compile(r"checkpoint-\d+")  # as trainers number them
_ODD = re.compile(r"[^\w./+-]+")
_LONGEST_NAME = 100


def locate(settings: Settings, on_progress: Report, *, may_download: bool) -> ModelFiles:
    """Everything that the model of `settings` needs, found, or downloaded where `may_download`.

    Raises `StartupError`.
    """
    folder = None
    if settings.model_path is not None:
        folder = resolve_model_path(settings.model_path)
    elif settings.model is not None or settings.adapter is None:
        repository, _, revision = (settings.model or CSM_REPOSITORY).partition("@")
        folder = _repository(repository, revision or "main", on_progress, may_download)
    adapter = None if settings.adapter is None else find_adapter(settings.adapter)
    if folder is not None and is_adapter(folder):
        is_whole = has_weights(folder)
        if adapter is None:
            adapter = folder
        elif not is_whole:
            raise StartupError(
                f"{folder} is an adapter too; give the model that --adapter {settings.adapter} "
                "was trained on as --model-path"
            )
        if not is_whole:
            folder = None
    if folder is None:
        assert adapter is not None  # there was nothing else to give
        folder = _base(adapter, on_progress, may_download)
    files = find_files(folder, may_download=may_download, on_progress=on_progress)
    if adapter is not None:
        on_progress(f"the adapter in {adapter} is merged into {folder}")
    return replace(files, adapter=adapter)


def _repository(repository: str, revision: str, on_progress: Report, may_download: bool) -> Path:
    if may_download:
        return download_model(repository, on_progress, revision)
    found = find_cached(repository, revision)
    if found is None:
        raise StartupError(
            f"{repository} is not in the Hugging Face cache; fetch it with --mode download "
            f"--model {repository}"
        )
    return found


def find_adapter(path: Path) -> Path:
    """The folder that `--adapter` names. Raises `StartupError` if it is not an adapter."""
    try:
        if not path.is_dir():
            what = "is a file; give the folder that holds it" if path.exists() else "does not exist"
            raise StartupError(
                f"--adapter {path} {what}; give what save_pretrained wrote, with "
                "adapter_config.json"
            )
        if not is_adapter(path):
            newest = newest_checkpoint(path)
            there = "" if newest is None else f"; its newest checkpoint is {newest}"
            raise StartupError(
                f"--adapter {path} holds no adapter: adapter_config.json is not there{there}"
            )
    except OSError as error:
        raise StartupError(f"--adapter {path} cannot be read ({error.strerror})") from error
    return path


def _base(adapter: Path, on_progress: Report, may_download: bool) -> Path:
    """The model that the adapter says it was trained on."""
    base, revision = read_adapter_base(adapter)
    give_it = f"give the model that it was trained on: --model-path BASE --adapter {adapter}"
    if base is None:
        raise StartupError(f"{adapter} is an adapter and does not say of which model; {give_it}")
    local = Path(base)
    if local.is_absolute() and local.is_dir():
        check_weights(local)
        return local
    if not is_repository(base):
        raise StartupError(
            f"{adapter} is an adapter of {base[:120]}, which is not on this machine; {give_it}"
        )
    found = find_cached(base, revision or "main")
    if found is not None:
        return found
    if may_download:
        return download_model(base, on_progress, revision or "main")
    raise StartupError(
        f"{adapter} is an adapter of {base}, which is not in the Hugging Face cache; {give_it}, or "
        f"fetch it: --mode download --adapter {adapter}"
    )


def name_of(files: ModelFiles) -> str:
    """The name that clients see: the repository if the folder is in the hub's cache, else the name
    of the folder; and the adapter."""
    name = _repository_of(files.folder) or _folder_name(files.folder)
    if files.adapter is None or files.adapter == files.folder:
        return name
    return _repository_of(files.adapter) or f"{name}+{_folder_name(files.adapter)}"


def _repository_of(folder: Path) -> str | None:
    storage = folder.parent.parent.name
    if not storage.startswith("models--"):
        return None
    return storage.removeprefix("models--").replace("--", "/", 1)


def _folder_name(folder: Path) -> str:
    """The name of the folder. Nothing inside says whose voice was trained, but people name folders
    after it."""
    path = folder.resolve()
    name = f"{path.parent.name}/{path.name}" if _CHECKPOINT.fullmatch(path.name) else path.name
    name = _ODD.sub("-", name).strip("-")[:_LONGEST_NAME]
    return CSM_REPOSITORY if not name or _PLAIN.fullmatch(name) else name
