"""What a tensor is called: wrappers' prefixes, and the codec's modules, which newer releases of
transformers group otherwise than its files do."""

from __future__ import annotations

import re
from collections.abc import Iterable

# `torch.compile`, `DataParallel`, Lightning and plain wrapper classes.
_PREFIX = re.compile(
    r"(?:(?:base_model|model|module|_orig_mod)\.)+(?=(?:backbone_model|depth_decoder|codec_model"
    r"|lm_head|embed_text_tokens|backbone|decoder|text_embeddings|audio_embeddings|projection"
    r"|codebook0_head|audio_head|(?:backbone|decoder)_causal_mask)(?:\.|$))"
)
_CODEC_MODULES = (
    ("codec_model.decoder.decoder_seanet.", "codec_model.decoder."),
    ("codec_model.decoder.decoder_transformer.", "codec_model.decoder_transformer."),
    ("codec_model.decoder.upsample.", "codec_model.upsample."),
    ("codec_model.encoder.encoder_seanet.", "codec_model.encoder."),
    ("codec_model.encoder.encoder_transformer.", "codec_model.encoder_transformer."),
    ("codec_model.encoder.downsample.", "codec_model.downsample."),
)
# Buffers that are computed, not learned; trainers keep some of them.
_HARMLESS = re.compile(
    r"(?:.*\.)?(?:rotary_emb\.(?:inv_freq|original_inv_freq)|rope\.(?:theta|cache|freqs)"
    r"|pos_embeddings\.(?:theta|cache)|audio_tokens_offsets|num_batches_tracked"
    r"|position_ids|attn\.kv_cache\..*)"
    r"|(?:backbone|decoder)_causal_mask"
)


def plain_name(name: str) -> str:
    """The name without a wrapper's prefix, with the codec's modules as the published files name
    them."""
    name = name.replace("._orig_mod.", ".")
    if match := _PREFIX.match(name):
        name = name[match.end() :]
    for module, published in _CODEC_MODULES:
        if name.startswith(module):
            return published + name.removeprefix(module)
    return name


def is_harmless(name: str) -> bool:
    """Whether the tensor can be left out: a buffer that every program computes for itself."""
    return _HARMLESS.fullmatch(name) is not None


def find_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are one without their prefixes."""
    seen: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        if plain in seen:
            return seen[plain], name
        seen[plain] = name
    return None
