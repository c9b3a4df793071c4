"""The trained model of twenty words as an engine; `training/README.md` says how it was made."""

from __future__ import annotations

from pathlib import Path

from tts_provider.config import Settings
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.selection import Choice, build_engine
from tts_provider.speech.engine import Engine
from tts_provider.voices.store import open_store

from .conftest import make_torch_backend

FOLDER = Path(__file__).parents[2] / "data" / "small-csm"

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (*DIGITS, "yes", "no", "hello", "please", "red", "blue", "door", "dog", "stop")


def settings_of(precision: str, data_dir: Path) -> Settings:
    return Settings(
        _env_file=None,
        mode="reuse",
        model_path=FOLDER,
        engine="csm",
        device="cpu",
        precision=precision,
        data_dir=data_dir,
    )


def make_engine(kind: str, data_dir: Path) -> Engine:
    """`kind` is a precision of the CPU's, or `torch`, PyTorch's float32 on the CPU."""
    if kind != "torch":
        return build_engine(Choice("csm", "the test"), settings_of(kind, data_dir))
    from tts_provider.engines.csm.files.checkpoint import open_checkpoint
    from tts_provider.engines.csm.files.tensors import files_key

    checkpoint = open_checkpoint(FOLDER)
    return CsmEngine(
        checkpoint,
        FOLDER / "tokenizer.json",
        lambda report: make_torch_backend(FOLDER, slots=8),
        device="cpu",
        precision="float32",
        codec=files_key(checkpoint.codec),
        store=open_store(settings_of("float32", data_dir)),
    )
