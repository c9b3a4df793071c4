"""Stage 3, language model: a narrow CSM that learns to say the words' codes."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration

from codec import CODEBOOKS, CODES
from codec import config as codec_config
from lists import NO_TOKEN, Example, Lists
from tokenizer import BEGIN, make_tokenizer

VOCABULARY = CODES + 3
"""As in the published model, three entries that no codec has."""
POSITIONS = 512
_BATCH_POSITIONS = 640
# The backbone's answers that the depth decoder learns from in a step: all of them would take most
# of the time. CSM's authors take one in sixteen.
_DEPTH_FRAMES = 64
_RATE, _WARM_UP, _CLIP = 2e-3, 100, 1.0
# Codes that are replaced by any other in what the model reads, so that a slip is not the end.
_NOISE = 0.04


def config() -> CsmConfig:
    ids = make_tokenizer().get_vocab()
    return CsmConfig(
        num_codebooks=CODEBOOKS,
        vocab_size=VOCABULARY,
        text_vocab_size=len(ids),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=ids[BEGIN],
        pad_token_id=None,
        codebook_pad_token_id=VOCABULARY - 1,
        # Placeholders of transformers' processor: beyond the text's own.
        audio_token_id=len(ids),
        audio_eos_token_id=len(ids) + 1,
        depth_decoder_config={
            "num_codebooks": CODEBOOKS,
            "vocab_size": VOCABULARY,
            "backbone_hidden_size": 128,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": CODEBOOKS + 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        codec_config=codec_config().to_dict(),
    )


def train(
    model: CsmForConditionalGeneration,
    lists: Lists,
    *,
    steps: int,
    seed: int,
    state: Path,
    learning: str = "",
    rate: float = _RATE,
) -> None:
    """To `steps`, from where `state` says that an earlier run was. Only what `learning` begins the
    name of changes, and nothing of the codec."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(learning) and not name.startswith("codec_model."))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    random = torch.Generator().manual_seed(seed)
    first = 0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        random.set_state(saved["random"])
        first = saved["step"]
    model.train()
    losses, begun = [], time.monotonic()
    for step in range(first, steps):
        warm = min(1.0, (step + 1) / _WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        # What goes on learning needs no easy beginning.
        progress = 1.0 if learning else step / steps
        loss = _loss(model, lists.batch(_BATCH_POSITIONS, progress), random)
        optimizer.zero_grad(set_to_none=True)
        sum(loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()
        losses.append([part.item() for part in loss])
        if (step + 1) % 100 == 0 or step + 1 == steps:
            backbone, depth = np.mean(losses, axis=0)
            speed = (step + 1 - first) / (time.monotonic() - begun)
            print(
                f"step {step + 1}: backbone {backbone:.4f} depth {depth:.4f} {speed:.1f}/s",
                flush=True,
            )
            losses = []
        if (step + 1) % 500 == 0 or step + 1 == steps:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "random": random.get_state(),
                    "step": step + 1,
                },
                state,
            )
    model.eval()


def _loss(
    model: CsmForConditionalGeneration, batch: list[Example], random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Of the backbone, code 0, and of the depth decoder, the mean of the others; in nats."""
    tokens = _padded([example.tokens for example in batch], NO_TOKEN)  # [B, S]
    codes = _padded([example.codes for example in batch], 0)  # [B, S, codebooks]
    learned = _padded([example.learned for example in batch], False)
    read = torch.where(
        (torch.rand(codes.shape, generator=random) < _NOISE) & (codes.any(2, keepdim=True)),
        torch.randint(1, CODES, codes.shape, generator=random),
        codes,
    )
    x = torch.where(
        (tokens >= 0)[:, :, None],
        model.embed_text_tokens(tokens.clamp_min(0)),
        model.backbone_model.embed_tokens(read),
    )
    h = model.backbone_model(inputs_embeds=x, use_cache=False).last_hidden_state
    targets = learned[:, 1:]
    h, codes = h[:, :-1][targets], codes[:, 1:][targets]  # [frames, width], [frames, codebooks]
    backbone = F.cross_entropy(model.lm_head(h), codes[:, 0])
    some = torch.randperm(len(h), generator=random)[:_DEPTH_FRAMES]
    depth = model.depth_decoder(
        input_ids=F.pad(codes[some, :-1], (1, 0)),
        backbone_last_hidden_state=h[some],
        use_cache=False,
    )
    # transformers answers for every position after the first: codes 1 and on.
    return backbone, F.cross_entropy(depth.logits.flatten(0, 1), codes[some, 1:].flatten())


def _padded(arrays: list[np.ndarray], value: int | bool) -> Tensor:
    tensors = [torch.from_numpy(array) for array in arrays]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
