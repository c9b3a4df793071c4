"""The model's dimensions, read from `config.json`; nothing is assumed that the file can say.

Field names follow the papers, not any one library. Sources: the published `config.json` of
`sesame/csm-1b` (transformers layout) and of `kyutai/mimi`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tts_provider.errors import StartupError


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's scaling: low frequencies are stretched by `factor`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: float


@dataclass(frozen=True)
class TransformerConfig:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    norm_eps: float
    rope_base: float
    rope_scaling: RopeScaling | None


@dataclass(frozen=True)
class MimiConfig:
    """Mimi, the codec: causal convolutions around a small transformer, and 32 codebooks."""

    sample_rate: int
    channels: int
    filters: int
    residual_layers: int
    ratios: tuple[int, ...]
    """Upsampling of the decoder's blocks, outermost last; the encoder uses them reversed."""
    kernel: int
    last_kernel: int
    residual_kernel: int
    dilation_growth: int
    compress: int
    codebooks: int
    semantic_codebooks: int
    codebook_size: int
    codebook_width: int
    quantizer_width: int
    upsample_groups: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    norm_eps: float
    rope_base: float
    window: int
    """Positions a transformer layer looks back, itself included."""

    @property
    def samples_per_step(self) -> int:
        """Samples per position of the transformers, 25 Hz in the published codec."""
        product = 1
        for ratio in self.ratios:
            product *= ratio
        return product

    @property
    def samples_per_frame(self) -> int:
        """Samples per frame of codes: two transformer positions, 80 ms in the published codec."""
        return 2 * self.samples_per_step


@dataclass(frozen=True)
class CsmConfig:
    backbone: TransformerConfig
    depth: TransformerConfig
    codebooks: int
    audio_vocabulary: int
    """Entries a codebook: the codec's codes and a few specials."""
    text_vocabulary: int
    positions: int
    """The longest prompt and reply together, in frames."""
    mimi: MimiConfig | None
    """None where the checkpoint brings no codec."""


def read_config(path: Path) -> CsmConfig:
    """Read a transformers `config.json`. Raises `StartupError` naming the file and the key."""
    body = _read_json(path)
    if (original := _read_original(path, body)) is not None:
        return original
    if body.get("model_type") != "csm":
        raise StartupError(
            f"{path} describes a model of type {body.get('model_type')!r}, not 'csm'; "
            "point --model-path at a folder of sesame/csm-1b"
        )
    reader = _Reader(path, body)
    depth = reader.child("depth_decoder_config")
    codec = body.get("codec_config")
    return CsmConfig(
        backbone=_transformer(reader),
        depth=_transformer(depth),
        codebooks=reader.integer("num_codebooks"),
        audio_vocabulary=reader.integer("vocab_size"),
        text_vocabulary=reader.integer("text_vocab_size"),
        positions=reader.integer("max_position_embeddings"),
        mimi=None if not isinstance(codec, dict) else _mimi(_Reader(path, codec, "codec_config.")),
    )


def read_mimi_config(path: Path) -> MimiConfig:
    """Read the `config.json` of a Mimi checkpoint of its own."""
    body = _read_json(path)
    if body.get("model_type") != "mimi":
        raise StartupError(f"{path} describes a model of type {body.get('model_type')!r}, not mimi")
    return _mimi(_Reader(path, body))


_LLAMA3 = RopeScaling(32.0, 1.0, 4.0, 8192)

# The original layout has no config.json: these are its code's own constants (csm.md's facts).
CSM_1B = CsmConfig(
    backbone=TransformerConfig(16, 2048, 32, 8, 64, 8192, 1e-5, 500_000.0, _LLAMA3),
    depth=TransformerConfig(4, 1024, 8, 2, 128, 8192, 1e-5, 500_000.0, _LLAMA3),
    codebooks=32,
    audio_vocabulary=2051,
    text_vocabulary=128_256,
    positions=2048,
    mimi=None,
)


_FLAVORS = {"llama-1B": CSM_1B.backbone, "llama-100M": CSM_1B.depth}


def _read_original(path: Path, body: Mapping[str, Any]) -> CsmConfig | None:
    """The `config.json` of the original code: names of sizes, at the top or under `args`; None
    where it is no such file."""
    prefix = ""
    if "backbone_flavor" not in body and isinstance(body.get("args"), dict):
        body, prefix = body["args"], "args."
    if "backbone_flavor" not in body:
        return None
    reader = _Reader(path, body, prefix)
    for key in ("backbone_flavor", "decoder_flavor"):
        reader.must_be(key, tuple(_FLAVORS))

    def part(key: str, default: TransformerConfig) -> TransformerConfig:
        return _FLAVORS[body[key]] if key in body else default

    def size(key: str, default: int) -> int:
        return reader.integer(key) if key in body else default

    return replace(
        CSM_1B,
        backbone=part("backbone_flavor", CSM_1B.backbone),
        depth=part("decoder_flavor", CSM_1B.depth),
        codebooks=size("audio_num_codebooks", CSM_1B.codebooks),
        audio_vocabulary=size("audio_vocab_size", CSM_1B.audio_vocabulary),
        text_vocabulary=size("text_vocab_size", CSM_1B.text_vocabulary),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise StartupError(f"{path} is missing; download the model again") from None
    except (OSError, ValueError) as error:
        raise StartupError(f"{path} cannot be read ({error}); download it again") from None
    if not isinstance(body, dict):
        raise StartupError(f"{path} holds no JSON object; download it again")
    return body


class _Reader:
    def __init__(self, path: Path, body: Mapping[str, Any], prefix: str = "") -> None:
        self._path, self._body, self._prefix = path, body, prefix

    def child(self, key: str) -> _Reader:
        value = self._body.get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return _Reader(self._path, value, f"{self._prefix}{key}.")

    def integer(self, key: str) -> int:
        value = self._body.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, "a positive integer", value)
        return value

    def number(self, key: str) -> float:
        value = self._body.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise self._wrong(key, "a positive number", value)
        return float(value)

    def integers(self, key: str) -> tuple[int, ...]:
        value = self._body.get(key)
        if not isinstance(value, list) or not all(isinstance(v, int) and v > 0 for v in value):
            raise self._wrong(key, "a list of positive integers", value)
        return tuple(value)

    def must_be(self, key: str, allowed: tuple[Any, ...]) -> None:
        if key in self._body and self._body[key] not in allowed:
            raise self._wrong(key, " or ".join(map(repr, allowed)), self._body[key])

    def get(self, key: str) -> Any:
        return self._body.get(key)

    def _wrong(self, key: str, expected: str, value: Any) -> StartupError:
        return StartupError(
            f"{self._path}: {self._prefix}{key} must be {expected}, this engine knows nothing "
            f"else; it is {str(value)[:60]!r}"
        )

    def rope(self) -> tuple[float, RopeScaling | None]:
        """Base and scaling, from `rope_parameters` (transformers 5) or the older two keys."""
        for key in ("rope_parameters", "rope_scaling"):
            value = self._body.get(key)
            if not isinstance(value, dict):
                continue
            rope = self.child(key)
            base = rope.number("rope_theta") if "rope_theta" in value else self.number("rope_theta")
            kind = value.get("rope_type", value.get("type", "default"))
            if kind == "default":
                return base, None
            if kind != "llama3":
                raise rope._wrong("rope_type", "'default' or 'llama3'", kind)
            scaling = RopeScaling(
                factor=rope.number("factor"),
                low_freq_factor=rope.number("low_freq_factor"),
                high_freq_factor=rope.number("high_freq_factor"),
                original_positions=rope.number("original_max_position_embeddings"),
            )
            return base, scaling
        return self.number("rope_theta"), None


def _transformer(reader: _Reader) -> TransformerConfig:
    reader.must_be("hidden_act", ("silu",))
    reader.must_be("attention_bias", (False,))
    reader.must_be("mlp_bias", (False,))
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    base, scaling = reader.rope()
    return TransformerConfig(
        layers=reader.integer("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=reader.integer("num_key_value_heads"),
        head_size=reader.integer("head_dim") if reader.get("head_dim") else width // heads,
        mlp_width=reader.integer("intermediate_size"),
        norm_eps=reader.number("rms_norm_eps"),
        rope_base=base,
        rope_scaling=scaling,
    )


def _mimi(reader: _Reader) -> MimiConfig:
    reader.must_be("audio_channels", (1,))
    reader.must_be("use_causal_conv", (True,))
    reader.must_be("pad_mode", ("constant",))
    reader.must_be("hidden_act", ("gelu",))
    reader.must_be("use_conv_shortcut", (False,))
    reader.must_be("trim_right_ratio", (1.0,))
    reader.must_be("attention_bias", (False,))
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    base, scaling = reader.rope()
    if scaling is not None:
        raise reader._wrong("rope_parameters", "without scaling", scaling)
    return MimiConfig(
        sample_rate=reader.integer("sampling_rate"),
        channels=reader.integer("audio_channels"),
        filters=reader.integer("num_filters"),
        residual_layers=reader.integer("num_residual_layers"),
        ratios=reader.integers("upsampling_ratios"),
        kernel=reader.integer("kernel_size"),
        last_kernel=reader.integer("last_kernel_size"),
        residual_kernel=reader.integer("residual_kernel_size"),
        dilation_growth=reader.integer("dilation_growth_rate"),
        compress=reader.integer("compress"),
        codebooks=reader.integer("num_quantizers"),
        semantic_codebooks=reader.integer("num_semantic_quantizers"),
        codebook_size=reader.integer("codebook_size"),
        codebook_width=reader.integer("codebook_dim"),
        quantizer_width=reader.integer("vector_quantization_hidden_dimension"),
        upsample_groups=reader.integer("upsample_groups"),
        width=width,
        layers=reader.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=reader.integer("num_key_value_heads"),
        head_size=reader.integer("head_dim") if reader.get("head_dim") else width // heads,
        mlp_width=reader.integer("intermediate_size"),
        norm_eps=reader.number("norm_eps"),
        rope_base=base,
        window=reader.integer("sliding_window"),
    )
