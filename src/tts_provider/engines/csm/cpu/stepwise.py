"""Makes a frame product by product: one call for the backbone and one for each further codebook.

ONNX Runtime makes frames so, and the kernels' single call is compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.cpu.language import Frame, Language
from tts_provider.engines.csm.sampling import NO_CODE, Sampler

Weights = Mapping[str, np.ndarray]

AUDIO_TABLE = "backbone_model.embed_tokens.embed_audio_tokens"
DEPTH_TABLE = "depth_embeddings"


class Stepwise:
    """Frames of a language model, by its `read` and `speak`."""

    def __init__(self, language: Language, config: CsmConfig, weights: Weights) -> None:
        self._language = language
        self._codebooks, self._vocabulary = config.codebooks, config.audio_vocabulary
        self._audio_table, self._depth_table = weights[AUDIO_TABLE], weights[DEPTH_TABLE]

    def frame(self, frame: Frame) -> np.ndarray:
        logits, projected = self._read(frame)
        return self._run_depth(frame, logits, projected)

    def _read(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Let the backbone read the frames that were made last."""
        logits, projected = frame.logits.copy(), frame.projected.copy()
        reading = [number for number, codes in enumerate(frame.read) if codes is not None]
        if not reading:
            return logits, projected
        # Every row up to the last one takes part; one that reads nothing writes beyond its length,
        # where its next frame will go.
        count = 1 + max(frame.rows[number] for number in reading)
        x = np.zeros((count, 1, self._audio_table.shape[1]), np.float32)
        adapters = [None] * count if frame.adapters else []
        for number in reading:
            row = frame.rows[number]
            x[row, 0] = self._embed(frame.read[number])
            if frame.adapters:
                adapters[row] = frame.adapters[number]
        said, first = self._language.read(x, 0, frame.lengths[:count], adapters)
        for number in reading:
            row = frame.rows[number]
            logits[number], projected[number] = said[row], first[row]
        return logits, projected

    def _embed(self, codes: np.ndarray | None) -> np.ndarray:
        assert codes is not None
        rows = codes + self._vocabulary * np.arange(self._codebooks)
        total: np.ndarray = self._audio_table[rows].astype(np.float32).sum(0)
        return total

    def _run_depth(self, frame: Frame, logits: np.ndarray, projected: np.ndarray) -> np.ndarray:
        """Code 0 from the backbone's logits, the others one by one through the depth decoder."""
        codes = np.empty((len(frame.rows), self._codebooks), np.int64)
        codes[:, 0] = _draw(logits[:, : frame.choices], frame.samplers, 0)
        # The backbone's state and code 0 go in together: one reading of the weights for both. Where
        # there is no code, -1 finds the table's last row: any will do, the frame is lost.
        first = self._depth_table[codes[:, 0]].astype(np.float32)
        x = np.stack([projected, first], axis=1)  # [B, 2, depth W]
        for book in range(1, self._codebooks):
            said = self._language.speak(x, book, frame.adapters)
            codes[:, book] = _draw(said[:, : frame.choices], frame.samplers, book)
            x = self._depth_table[codes[:, book] + self._vocabulary * book].astype(np.float32)
            x = x[:, None]  # [B, 1, depth W]
        codes[(codes == NO_CODE).any(axis=1)] = NO_CODE
        return codes


def _draw(logits: np.ndarray, samplers: Sequence[Sampler], book: int) -> list[int]:
    return [sampler.sample(row, book) for sampler, row in zip(samplers, logits, strict=True)]
