"""Which engine speaks, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tts_provider.config import Settings
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Engine

CSM_REPOSITORY = "sesame/csm-1b"


@dataclass(frozen=True)
class Choice:
    engine: Literal["csm", "espeak"]
    reason: str
    warning: str | None = None


def choose_engine(settings: Settings) -> Choice:
    """What `--engine auto` comes to. Asking for the model in any way is never overruled."""
    if settings.engine != "auto":
        return Choice(settings.engine, f"--engine {settings.engine} asks for it")
    if settings.mode is not None:
        return Choice("csm", f"--mode {settings.mode} asks for CSM-1B")
    if settings.model_path is not None:
        return Choice("csm", f"--model-path {settings.model_path} asks for CSM-1B")
    return Choice(
        "espeak",
        "this version has no CSM engine yet",
        "speaking with the embedded voice (espeak-ng); CSM-1B is not built in yet",
    )


def build_engine(choice: Choice) -> Engine:
    """The engine, not loaded yet. Raises `StartupError` where it cannot be had."""
    if choice.engine == "csm":
        raise StartupError(
            f"CSM-1B is not built in yet ({choice.reason}); --engine espeak speaks without it"
        )
    from tts_provider.speech.espeak import EspeakEngine

    return EspeakEngine()


def hub_cache(settings: Settings) -> Path:
    """Where huggingface_hub keeps what it downloaded."""
    home = settings.hf_home or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def find_snapshots(settings: Settings) -> list[Path]:
    """CSM-1B's snapshots in the Hugging Face cache."""
    folder = hub_cache(settings) / f"models--{CSM_REPOSITORY.replace('/', '--')}" / "snapshots"
    return sorted(path for path in folder.glob("*") if path.is_dir())
