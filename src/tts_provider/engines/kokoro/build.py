"""Builds Kokoro's engine from settings. Its files are found or downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tts_provider.config import Settings
from tts_provider.cpus import available_cpus
from tts_provider.engines.hub.cache import hub_cache
from tts_provider.engines.kokoro.files import KokoroFiles, fetch, find_cached, find_folder
from tts_provider.speech.engine import Engine

if TYPE_CHECKING:
    from tts_provider.engines.espeak.engine import EspeakEngine


def find_files(settings: Settings) -> KokoroFiles | None:
    """The files on this machine; None if they would be downloaded.

    Raises `StartupError` if `--kokoro-path` has none.
    """
    precision, wanted = settings.kokoro_precision, settings.kokoro_voices
    if settings.kokoro_path is not None:
        return find_folder(settings.kokoro_path, precision, wanted)
    return find_cached(hub_cache(settings), precision, wanted)


def find_kokoro(settings: Settings) -> str | None:
    """Why the engine is available without a download, in words; None if it is not."""
    if settings.kokoro_path is not None:
        return f"--kokoro-path {settings.kokoro_path} asks for Kokoro-82M"
    files = find_files(settings)
    if files is None:
        return None
    return f"{files.graph.parent.parent} holds Kokoro-82M and {len(files.voices)} voices"


def build(
    settings: Settings, on_progress: Callable[[str], None], foreign: EspeakEngine | None
) -> Engine:
    """Build the engine, with its files found or downloaded and checked, but not loaded yet.

    Raises `StartupError` if that is impossible.
    """
    from tts_provider.engines.kokoro.engine import KokoroEngine

    files = find_files(settings) or fetch(
        settings.kokoro_precision, settings.kokoro_voices, on_progress
    )
    return KokoroEngine(
        files,
        settings.check_data_dir() / "kokoro",
        precision=settings.kokoro_precision,
        threads=settings.threads or available_cpus(),
        foreign=foreign,
    )
