"""The hub's repositories that a model comes from, small; and folders that hold them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files.snapshot import MIMI_REPOSITORY, TOKENIZER_REPOSITORY

MIB = 1024 * 1024
SHARDS = [f"transformers-0000{number}-of-00002.safetensors" for number in (1, 2)]
CACHE_NAME = "models--sesame--csm-1b"


def safetensors(*names: str, data_bytes: int = 16, seed: int = 0) -> bytes:
    """A well-formed file; the first tensor holds everything."""
    sizes = [data_bytes] + [0] * (len(names) - 1)
    header, offset = {}, 0
    for name, size in zip(names, sizes, strict=True):
        header[name] = {
            "dtype": "F32",
            "shape": [size // 4],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + random.Random(seed).randbytes(offset)


def index(**weight_map: str) -> bytes:
    return json.dumps({"weight_map": weight_map}).encode()


WEIGHTS = {
    SHARDS[0]: safetensors("backbone_model.norm.weight", data_bytes=3 * MIB, seed=1),
    SHARDS[1]: safetensors("codec_model.x", data_bytes=8192, seed=2),
    "transformers.safetensors.index.json": index(
        **{"backbone_model.norm.weight": SHARDS[0], "codec_model.x": SHARDS[1]}
    ),
}
NEEDED = {
    **WEIGHTS,
    "config.json": b'{"model_type": "csm"}',
    "generation_config.json": b'{"generation": 1}',
    "preprocessor_config.json": b'{"preprocessor": 1}',
    "tokenizer.json": b'{"version": "1.0"}' + 6000 * b" ",
    "tokenizer_config.json": b"{}",
    "special_tokens_map.json": b"{ }",
    "chat_template.jinja": b"",
    "prompts/read_speech_a.wav": b"RIFF" + 5000 * b"a",
    "prompts/conversational_b.wav": b"RIFF" + 5000 * b"b",
}
NOT_NEEDED = {
    "README.md": b"# CSM",
    ".gitattributes": b"*",
    "model.safetensors": safetensors("text_embeddings.weight", data_bytes=8192, seed=3),
    "ckpt.pt": 5000 * b"p",
    "prompts/old/read_speech_a.wav": b"RIFF",
    "prompts/../../../../escaped.wav": b"RIFF",
}
ORIGINAL = {"model.safetensors": NOT_NEEDED["model.safetensors"], "ckpt.pt": NOT_NEEDED["ckpt.pt"]}
MIMI = {
    "config.json": b'{"model_type": "mimi"}',
    "model.safetensors": safetensors("encoder.x", data_bytes=8192, seed=4),
}
EVERYTHING = {
    CSM_REPOSITORY: {**NEEDED, **NOT_NEEDED},
    MIMI_REPOSITORY: {**MIMI, "README.md": b"# Mimi"},
    TOKENIZER_REPOSITORY: {"tokenizer.json": NEEDED["tokenizer.json"], "LICENSE": b"..."},
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
