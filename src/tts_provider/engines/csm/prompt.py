"""Segments of a conversation → the frames that the backbone reads.

A frame is 32 audio codes or one text token. A segment that was spoken is its text, its audio
frames, and one frame of 32 zeros, the end of audio; the new text comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NO_TOKEN = -1


@dataclass(frozen=True)
class Prompt:
    """Rows to read: where `tokens` is `NO_TOKEN`, the codes count; else the token does."""

    tokens: npt.NDArray[np.int64]  # (frames,)
    codes: npt.NDArray[np.int64]  # (frames, codebooks)

    def __len__(self) -> int:
        return len(self.tokens)

    def piece(self, start: int, end: int) -> Prompt:
        return Prompt(self.tokens[start:end], self.codes[start:end])


def text_prompt(token_ids: Sequence[int], codebooks: int) -> Prompt:
    tokens = np.asarray(token_ids, np.int64)
    return Prompt(tokens, np.zeros((len(tokens), codebooks), np.int64))


def audio_prompt(codes: npt.NDArray[np.int64]) -> Prompt:
    """Codes (frames, codebooks) and the end-of-audio frame after them."""
    ended = np.concatenate([codes, np.zeros((1, codes.shape[1]), np.int64)])
    return Prompt(np.full(len(ended), NO_TOKEN, np.int64), ended)


def join(parts: Sequence[Prompt]) -> Prompt:
    return Prompt(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.codes for part in parts]),
    )
