"""Which engine speaks, and why; and how the chosen one is built."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tts_provider.config import Settings
from tts_provider.csm import CSM_REPOSITORY
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Engine

if TYPE_CHECKING:
    from tts_provider.csm.backend import Backend
    from tts_provider.csm.hub import ModelFiles


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
    if settings.hf_token is not None:
        return Choice("csm", "HF_TOKEN is set, so CSM-1B can be downloaded")
    if snapshots := find_snapshots(settings):
        return Choice("csm", f"{snapshots[-1]} holds CSM-1B")
    return Choice(
        "espeak",
        "CSM-1B is not here: no HF_TOKEN, no --model-path, no snapshot in the Hugging Face cache",
        "speaking with the embedded voice (espeak-ng); for CSM-1B accept its terms at "
        f"https://huggingface.co/{CSM_REPOSITORY} and set HF_TOKEN in .env",
    )


def build_engine(
    choice: Choice, settings: Settings, on_progress: Callable[[str], None] = lambda line: None
) -> Engine:
    """The engine, its files found or downloaded and checked, not loaded yet.

    Raises `StartupError` where it cannot be had.
    """
    if choice.engine == "csm":
        return _build_csm(settings, on_progress)
    from tts_provider.speech.espeak import EspeakEngine

    return EspeakEngine()


def _build_csm(settings: Settings, on_progress: Callable[[str], None]) -> Engine:
    if settings.device == "cuda":
        raise StartupError("--device cuda is not built in yet; --device cpu runs CSM-1B")
    precision = "int8" if settings.precision == "auto" else settings.precision
    if precision == "bfloat16":
        raise StartupError("--precision bfloat16 needs CUDA; a CPU has float32, int8 and int4")
    from tts_provider.csm.checkpoint import find_codec, open_checkpoint, read_all
    from tts_provider.csm.engine import CsmEngine
    from tts_provider.csm.onnx.backend import OnnxBackend
    from tts_provider.csm.onnx.weights import check_cache, load_weights

    files = _locate(settings, on_progress)
    checkpoint = open_checkpoint(files.folder)
    codec_config, codec = find_codec(checkpoint, files.mimi)
    folder = settings.check_data_dir() / "weights"
    check_cache(checkpoint, precision, folder)

    def build_backend(report: Callable[[str], None]) -> Backend:
        weights = load_weights(checkpoint, precision, folder, report)
        report("building the graphs")
        return OnnxBackend(
            checkpoint.config,
            weights,
            read_all(codec),
            codec_config,
            precision=precision,
            slots=settings.max_streams,
            threads=settings.threads or available_cpus(),
        )

    return CsmEngine(
        checkpoint,
        files.tokenizer,
        build_backend,
        device="cpu",
        precision=precision,
        normalize_text=settings.normalize_text,
        max_ahead_s=settings.max_unsent_audio_s,
    )


def _locate(settings: Settings, on_progress: Callable[[str], None]) -> ModelFiles:
    from tts_provider.csm.hub import download_csm, find_files, resolve_model_path

    reuse = settings.mode == "reuse" or (settings.mode is None and settings.model_path is not None)
    if reuse:
        assert settings.model_path is not None  # load_settings made sure
        folder = resolve_model_path(settings.model_path)
    else:
        folder = download_csm(on_progress)
    return find_files(folder, may_download=not reuse, on_progress=on_progress)


def available_cpus() -> int:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hub_cache(settings: Settings) -> Path:
    """Where huggingface_hub keeps what it downloaded."""
    home = settings.hf_home or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def find_snapshots(settings: Settings) -> list[Path]:
    """CSM-1B's snapshots in the Hugging Face cache."""
    folder = hub_cache(settings) / f"models--{CSM_REPOSITORY.replace('/', '--')}" / "snapshots"
    return sorted(path for path in folder.glob("*") if path.is_dir())
