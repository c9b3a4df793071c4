"""How the hub's own client keeps files (https://huggingface.co/docs/hub/local-cache):
`models--OWNER--NAME/{refs/main, snapshots/COMMIT/…, blobs/…}`."""

from __future__ import annotations

import os
from pathlib import Path

from tts_provider.config import Settings


def cache_name(repository: str) -> str:
    return f"models--{repository.replace('/', '--')}"


def read_ref(repository: Path, revision: str) -> str:
    """The commit that a branch points to; a name that is not a branch is a commit itself."""
    try:
        return (repository / "refs" / revision).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return revision


def hub_cache(settings: Settings) -> Path:
    """Where huggingface_hub keeps what it downloaded."""
    home = settings.hf_home or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
