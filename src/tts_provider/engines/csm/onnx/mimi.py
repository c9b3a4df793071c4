"""Mimi on ONNX Runtime: codes to sound as they come, and sound to codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tts_provider.engines.csm.config import MimiConfig
from tts_provider.engines.csm.onnx.mimi_graphs import Weights, decoder_graph, encoder_graph

# Frames of all rows together in one run. More gain nothing and take half a megabyte an activation.
_FRAMES_A_RUN = 64

_POSITIONS_A_FRAME = 2


class MimiDecoder:
    """A streaming decoder of `rows` streams.

    The concatenated output of a stream is what decoding all of its codes at once gives, however
    they were cut. Not for use by two threads at a time.
    """

    def __init__(self, config: MimiConfig, weights: Weights, rows: int, threads: int) -> None:
        """`weights` by transformers' names, without `codec_model.`."""
        built = decoder_graph(config, weights)
        self._config = config
        self._session = built.graph.session(threads, rests=True)
        self._frequencies = _frequencies(config)
        # Transformer positions each row has decoded.
        self._positions = np.zeros(rows, np.int64)
        self._tails = {
            name: np.zeros((rows, *shape), np.float32) for name, shape in built.tails.items()
        }
        kv, head, window = config.kv_heads, config.head_size, config.window
        # Position p lies in slot p % window; the order of keys does not matter to attention.
        self._keys = {k: np.zeros((rows, kv, head, window), np.float32) for k, _ in built.caches}
        self._values = {v: np.zeros((rows, kv, window, head), np.float32) for _, v in built.caches}
        self._state = {**self._tails, **self._keys, **self._values}
        # Where rows apart are gathered: a fresh array would have to be mapped in on every call.
        self._gathered = {name: np.empty_like(state) for name, state in self._state.items()}
        self._outputs = [
            "pcm",
            *(f"{name}.next" for name in self._tails),
            *(f"{name}.new" for name in (*self._keys, *self._values)),
        ]

    def reset(self, row: int) -> None:
        """Start a new stream in `row`."""
        self._positions[row] = 0
        for state in self._state.values():
            state[row] = 0

    def decode(self, rows: Sequence[int], codes: np.ndarray) -> np.ndarray:
        """Continue the streams in `rows`, each named once; the others stay as they are.

        `codes` `[len(rows), codebooks, frames]`, integers below `codebook_size`, to samples
        `[len(rows), frames * samples_per_frame]`, float32.
        """
        assert len(set(rows)) == len(rows) == len(codes)
        assert codes.shape[1] == self._config.codebooks
        pcm = np.empty((len(rows), codes.shape[2] * self._config.samples_per_frame), np.float32)
        if not pcm.size:
            return pcm
        assert codes.min() >= 0
        assert codes.max() < self._config.codebook_size
        # A run's positions must fit the window, or two of them would want the same slot.
        most = min(_FRAMES_A_RUN // len(rows), self._config.window // _POSITIONS_A_FRAME)
        step = max(1, most)
        codes = codes.astype(np.int64, copy=False)
        for start in range(0, codes.shape[2], step):
            part = self._run(rows, codes[:, :, start : start + step])
            begin = start * self._config.samples_per_frame
            pcm[:, begin : begin + part.shape[1]] = part
        return pcm

    def _run(self, rows: Sequence[int], codes: np.ndarray) -> np.ndarray:
        # Neighboring rows are handed over where they lie: a row's keys and values are 8 MB.
        index, first, count = np.array(rows), rows[0], len(rows)
        if np.array_equal(index, np.arange(first, first + count)):
            feeds = {name: state[first : first + count] for name, state in self._state.items()}
        else:
            feeds = {name: self._gather(name, index) for name in self._state}
        positions = self._positions[index, None] + np.arange(_POSITIONS_A_FRAME * codes.shape[2])
        feeds |= _angles(self._frequencies, positions)
        feeds["mask"] = self._mask(positions)
        feeds["codes"] = np.ascontiguousarray(codes)
        outputs = self._session.run(self._outputs, feeds)
        pcm: np.ndarray = outputs[0]

        results = iter(outputs[1:])
        for tail in self._tails.values():
            tail[index] = next(results)
        row, slot = index[:, None], positions % self._config.window
        for keys in self._keys.values():
            keys[row, :, :, slot] = next(results)
        for values in self._values.values():
            values[row, :, slot] = next(results)
        self._positions[index] += positions.shape[1]
        return pcm

    def _gather(self, name: str, rows: np.ndarray) -> np.ndarray:
        out = self._gathered[name][: len(rows)]
        # Any mode but "raise" writes to `out` directly.
        return np.take(self._state[name], rows, axis=0, out=out, mode="clip")

    def _mask(self, positions: np.ndarray) -> np.ndarray:
        """What is added to the scores of `positions` `[rows, n]` over the cache's slots and
        themselves."""
        window = self._config.window
        last = positions[:, :1] - 1
        # The last position that fell into each slot; negative where the stream has not been yet.
        held = last - (last - np.arange(window)) % window
        return _window_mask(positions, np.concatenate([held, positions], axis=1), window)


class MimiEncoder:
    """Encodes whole recordings, the voice prompts."""

    def __init__(self, config: MimiConfig, weights: Weights, threads: int) -> None:
        """`weights` by transformers' names, without `codec_model.`."""
        self._config = config
        self._session = encoder_graph(config, weights).session(threads, rests=True)
        self._frequencies = _frequencies(config)

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Samples `(n,)` float32 at the codec's rate to codes
        `[codebooks, ceil(n / samples_per_frame)]`, int64."""
        if not len(samples):
            return np.zeros((self._config.codebooks, 0), np.int64)
        positions = np.arange(-(-len(samples) // self._config.samples_per_step))[None]
        feeds = _angles(self._frequencies, positions)
        feeds["mask"] = _window_mask(positions, positions, self._config.window)
        feeds["samples"] = np.ascontiguousarray(samples, np.float32).reshape(1, -1, 1)
        codes: np.ndarray = self._session.run(["codes"], feeds)[0]
        return codes


def _frequencies(config: MimiConfig) -> np.ndarray:
    """Radians a position of each pair of channels: RoPE, in float32 as the model was trained."""
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    return np.float32(1) / np.float32(config.rope_base) ** exponents  # [head / 2]


def _angles(frequencies: np.ndarray, positions: np.ndarray) -> dict[str, np.ndarray]:
    """The graphs' inputs for `positions` `[rows, n]`."""
    angles = positions.reshape(-1, 1).astype(np.float32) * frequencies  # [rows * n, head / 2]
    order = np.arange(positions.size).reshape(positions.shape)
    return {"cos": np.cos(angles), "sin": np.sin(angles), "angles": order}


def _window_mask(queries: np.ndarray, keys: np.ndarray, window: int) -> np.ndarray:
    """0 where a position sees another, else minus infinity.

    `queries` `[rows, n]` and `keys` `[rows, m]` are positions, negative ones never seen, to
    `[rows, 1, 1, n, m]`.
    """
    ages = queries[:, :, None] - keys[:, None, :]
    seen = (ages >= 0) & (ages < window) & (keys[:, None, :] >= 0)
    return np.where(seen, np.float32(0), np.float32(-np.inf))[:, None, None]
