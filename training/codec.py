"""Stage 2, codec: a Mimi that is fitted to the words by linear algebra, not by gradient.

Trained from nothing by spectral losses, so narrow a Mimi is not intelligible after an hour. But few
words have few frames, and few frames lie in a space of few dimensions: principal components give
the best linear encoder and decoder at once. `Mimi`'s layers can be that linear map exactly:

* a strided convolution of twice its stride has a tap for each sample of its own block, and so has
  a transposed one: each level maps blocks of the level before it onto their principal components;
* ELU is the identity on small numbers: signals are divided by 65 536 before it and multiplied
  after it, which costs nothing in floating point;
* residual blocks and the transformers add nothing.

The codebooks are k-means over what each codebook leaves to the next.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import MimiConfig, MimiModel

FILTERS = 16
RATIOS = (8, 6, 5, 4)
"""Upsampling, outermost last: blocks of 4, 20, 120 and 960 samples have 32, 64, 128 and 256
channels."""
WIDTH = 16 * FILTERS
CODEBOOKS, CODES = 8, 256
_SMALL = 2.0**-16
_QUIET = 1e-3
PAUSED = 2
# The semantic codebook is a label that is hardly heard: see `_semantic`.
_WHISPER = 2.0**-6


def config() -> MimiConfig:
    return MimiConfig(
        num_filters=FILTERS,
        upsampling_ratios=list(RATIOS),
        kernel_size=2,
        last_kernel_size=1,
        residual_kernel_size=1,
        compress=FILTERS,
        hidden_size=WIDTH,
        upsample_groups=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=8,
        sliding_window=8,
        num_quantizers=CODEBOOKS,
        codebook_size=CODES,
        # As wide as the model, so that there are no projections.
        codebook_dim=WIDTH,
        vector_quantization_hidden_dimension=WIDTH,
    )


def fit_codec(frames: np.ndarray, seed: int = 0) -> MimiModel:
    """frames (n, 1920) → a codec of bfloat16 numbers in float32 tensors."""
    model = MimiModel(config()).eval().float()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.zero_()
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith(("layernorm.weight", "cluster_usage", "initialized")):
                tensor.fill_(1)
        _fit_maps(model, torch.from_numpy(frames).double())
        _round(model)
        _fit_codebooks(model, torch.from_numpy(frames), seed)
        _round(model)
    return model


def _round(model: MimiModel) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and "stride" not in name:
            tensor.copy_(tensor.bfloat16().float())


def _components(blocks: Tensor, count: int) -> Tensor:
    """(n, size) → the first principal components about zero, so that silence stays silent, as rows
    of (count, size); zero rows where there are not so many."""
    _, vectors = torch.linalg.eigh(blocks.T @ blocks)
    rows = vectors.T.flip(0)[:count]
    return torch.nn.functional.pad(rows, (0, 0, 0, count - len(rows)))


def _fit_maps(model: MimiModel, frames: Tensor) -> None:
    encoder, decoder = model.encoder.encoder_seanet.layers, model.decoder.decoder_seanet.layers
    # Frames that are not as loud, which an f and an s are, count for more than their energy.
    frames = frames / frames.square().mean(1, keepdim=True).sqrt().clamp_min(_QUIET).sqrt()
    encoder[0].conv.weight[0, 0, -1] = _SMALL
    decoder[-1].conv.weight[0, 0, 0] = 1 / _SMALL
    # Blocks of one level: (n, positions, channels). The first has a sample a position.
    x = torch.nn.functional.pad(frames[:, :, None], (0, FILTERS - 1))
    for level, ratio in enumerate(reversed(RATIOS)):
        channels = 2 * x.shape[2]
        blocks = x.reshape(-1, ratio * x.shape[2])
        maps = _components(blocks, channels)  # [out, ratio · in]
        x = (blocks @ maps.T).reshape(len(frames), -1, channels)
        taps = maps.reshape(channels, ratio, -1)
        down, up = encoder[3 * level + 3], decoder[-3 * level - 4]
        down.conv.weight[:, :, ratio:] = taps.transpose(1, 2)  # [out, in, taps]
        up.conv.weight[:, :, :ratio] = taps.transpose(1, 2)  # [in, out, taps]
    halves = x.reshape(len(frames), 2 * WIDTH)
    maps = _components(halves, WIDTH).reshape(WIDTH, 2, WIDTH)  # [out, half, in]
    encoder[-1].conv.weight[:, :, 0] = torch.eye(WIDTH) / _SMALL
    model.encoder.downsample.conv.weight[:, :, 2:] = maps.transpose(1, 2)
    # The frame comes out of the upsampling at its first position, nothing at its second: there the
    # convolution sees it one position back.
    model.decoder.upsample.conv.weight[:, 0, 0] = 1
    decoder[0].conv.weight[:, :, 1] = maps[:, 0].T * _SMALL
    decoder[0].conv.weight[:, :, 0] = maps[:, 1].T * _SMALL


def _fit_codebooks(model: MimiModel, frames: Tensor, seed: int) -> None:
    latents = model.encoder(frames.reshape(1, 1, -1)).latents[0].T  # [n, width]
    random = torch.Generator().manual_seed(seed)
    semantic = model.quantizer.semantic_residual_vector_quantizer.layers[0].codebook
    semantic.embed_sum.copy_(_semantic(latents, random))
    rest = latents
    for layer in model.quantizer.acoustic_residual_vector_quantizer.layers:
        book = _k_means(rest, CODES, random)
        layer.codebook.embed_sum.copy_(book.bfloat16().float())
        rest = (
            rest - layer.codebook.embed_sum[torch.cdist(rest, layer.codebook.embed_sum).argmin(1)]
        )


def _semantic(latents: Tensor, random: torch.Generator) -> Tensor:
    """[256, width]: a label for each frame, the direction it has, too short to be heard.

    Code 0 is nobody's, because a frame of zeros ends the speech; 1 is silence; `PAUSED` is more of
    it, which the encoder never takes and the language model does, to know how long it has paused.
    """
    loud = latents[latents.norm(dim=1) > 0.1]
    directions = loud / loud.norm(dim=1, keepdim=True)
    means = _k_means(directions, CODES - 3, random)
    book = torch.zeros(CODES, latents.shape[1])
    book[3:] = _WHISPER * means / means.norm(dim=1, keepdim=True).clamp_min(1e-6)
    # The component that has the least of every frame.
    book[0, -1] = 1.0
    book[PAUSED, -1] = _WHISPER
    return book


def _k_means(points: Tensor, count: int, random: torch.Generator, rounds: int = 30) -> Tensor:
    """[n, width] → [count, width]; the first means are points far from those before them."""
    means = points[torch.randint(len(points), (1,), generator=random)]
    nearest = torch.full((len(points),), torch.inf)
    while len(means) < count:
        nearest = torch.minimum(nearest, (points - means[-1]).square().sum(1))
        if nearest.sum() < 1e-12:
            break
        chosen = torch.multinomial(nearest, 1, generator=random)
        means = torch.cat((means, points[chosen]))
    for _ in range(rounds):
        owner = torch.cdist(points, means).argmin(1)
        sums = torch.zeros_like(means).index_add_(0, owner, points)
        counts = torch.bincount(owner, minlength=len(means))[:, None]
        means = torch.where(counts > 0, sums / counts.clamp_min(1), means)
    # Where there are fewer points than codes, the others are silence.
    return torch.nn.functional.pad(means, (0, 0, 0, count - len(means)))
