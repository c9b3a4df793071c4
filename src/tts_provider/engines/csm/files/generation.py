"""How a model is sampled by default: settings, then `generation_config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tts_provider.config import Settings
from tts_provider.engines.csm.files.layout import read_json_object
from tts_provider.engines.csm.files.snapshot import ModelFiles
from tts_provider.engines.csm.sampling import DEFAULT_TEMPERATURE, DEFAULT_TOP_K, Sampling
from tts_provider.errors import StartupError

_NAME = "generation_config.json"


def read_sampling(files: ModelFiles, settings: Settings) -> Sampling:
    """What a request that says nothing is sampled with: a setting, else what the adapter's folder
    or the model's says, else the reference's. Raises `StartupError`."""
    path, body = files.folder / _NAME, {}
    for folder in filter(None, (files.adapter, files.folder)):
        if (folder / _NAME).is_file():
            path, body = folder / _NAME, read_json_object(folder / _NAME)
            break

    def temperature(key: str) -> float | None:
        found = _number(path, body, key, float, 0.0, 2.0)
        sample = body.get(key.replace("temperature", "do_sample"))
        if sample is not None and not isinstance(sample, bool):
            raise StartupError(
                f"{path}: {key.replace('temperature', 'do_sample')} must be true or false, got "
                f"{str(sample)[:60]!r}; correct the file, or remove it"
            )
        return 0.0 if sample is False else found  # greedy, whatever temperature stands beside it

    def top_k(key: str) -> int | None:
        found = _number(path, body, key, int, 0, 1_000_000)
        return None if found is None else int(found) or 1_000_000  # 0 is transformers' "all"

    return Sampling(
        _first(settings.temperature, temperature("temperature"), DEFAULT_TEMPERATURE),
        _first(settings.top_k, top_k("top_k"), DEFAULT_TOP_K),
        # The model's file does not override a setting for all codebooks.
        _first(
            settings.depth_temperature,
            settings.temperature,
            temperature("depth_decoder_temperature"),
        ),
        _first(settings.depth_top_k, settings.top_k, top_k("depth_decoder_top_k")),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(
    path: Path, body: dict[str, Any], key: str, kind: type, least: float, most: float
) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    kinds = (int,) if kind is int else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise StartupError(
            f"{path}: {key} must be {what} from {least:g} to {most:g}, got {str(value)[:60]!r}; "
            "correct the file, or remove it"
        )
    return value
