"""Kokoro's network on ONNX Runtime: a sentence's frames first, then samples of any stretch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tts_provider.engines.inference import Inference
from tts_provider.engines.kokoro.network.names import (
    AUDIO,
    DURATIONS,
    FEATURES,
    HARMONICS,
    IS_GIVEN,
    PITCH,
    SPEED,
    STYLE,
    TOKENS,
    statistics_names,
    used,
)
from tts_provider.engines.kokoro.network.prepared import Prepared
from tts_provider.errors import StartupError
from tts_provider.onnx_threads import single_thread_options
from tts_provider.speech.engine import Samples

FRAME_SAMPLES = 600
"""25 ms."""
_HARMONICS = 120  # spectra a frame

Floats = npt.NDArray[np.float32]
Statistics = Mapping[str, Floats]
"""The mean and the variance of each norm, (1, C, 1), by the name of the generator's input."""


def begin_inference() -> Inference:
    """For one utterance. The arena gives back behind each run what it does not need: 90 MB less,
    and no chunk takes longer."""
    return Inference(shrinks_arena=True)


@dataclass(frozen=True, eq=False)
class Frames:
    """A sentence before it is sound: F frames of 25 ms."""

    features: Floats  # (1, C, N F)
    harmonics: Floats  # (1, B, 120 F + 1)
    style: Floats  # (1, 256)
    durations: npt.NDArray[np.int64]  # (L,), frames of each phoneme

    def __len__(self) -> int:
        return int(self.harmonics.shape[2]) // _HARMONICS


class Network:
    """Runs on the calling thread; any number of threads may call it at once."""

    def __init__(self, prepared: Prepared) -> None:
        """Raises `StartupError` if the files are damaged."""
        _share_arena()
        self._encoder, self._harmonics, self._generator = (
            _open(path) for path in (prepared.encoder, prepared.harmonics, prepared.generator)
        )
        self._statistics = statistics_names(prepared.norms)
        nothing = np.zeros((1, 1, 1), np.float32)
        self._own = dict.fromkeys(self._statistics, nothing)

    def plan(self, ids: Sequence[int], style: Floats, speed: float, inference: Inference) -> Frames:
        """The frames of phonemes (L,), 0 at both ends. Raises `InferenceEnded`."""
        features, pitch, durations = inference.compute(
            self._encoder,
            (FEATURES, PITCH, DURATIONS),
            {
                TOKENS: np.asarray([ids], np.int64),
                STYLE: style,
                SPEED: np.asarray([speed], np.float32),
            },
        )
        (harmonics,) = inference.compute(self._harmonics, (HARMONICS,), {PITCH: pitch})
        return Frames(features, harmonics, style, durations.ravel().astype(np.int64))

    def decode(
        self,
        frames: Frames,
        begin: int,
        end: int,
        statistics: Statistics | None,
        inference: Inference,
    ) -> Samples:
        """The samples of frames `begin` to before `end`; without `statistics` with those of these
        frames themselves. Raises `InferenceEnded`."""
        (audio,) = inference.compute(
            self._generator, (AUDIO,), self._inputs(frames, begin, end, statistics)
        )
        samples: Samples = np.ravel(audio)
        return samples

    def measure(self, frames: Frames, inference: Inference) -> Statistics:
        """The statistics of these frames. Raises `InferenceEnded`."""
        outputs = [used(name) for name in self._statistics]
        made = inference.compute(
            self._generator, outputs, self._inputs(frames, 0, len(frames), None)
        )
        return dict(zip(self._statistics, made, strict=True))

    def _inputs(
        self, frames: Frames, begin: int, end: int, statistics: Statistics | None
    ) -> dict[str, Any]:
        width = frames.features.shape[2] // len(frames)
        return {
            FEATURES: frames.features[:, :, width * begin : width * end],
            HARMONICS: frames.harmonics[:, :, _HARMONICS * begin : _HARMONICS * end + 1],
            STYLE: frames.style,
            IS_GIVEN: np.array(statistics is not None),
            **(self._own if statistics is None else statistics),
        }


@functools.cache
def _share_arena() -> None:
    """One arena for all parts, which grows by what is asked for: 20 MB less than one each, which
    double. Without any, unlike hibari, a sentence of 12 s takes 2 GB."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    grown = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})  # kSameAsRequested
    onnxruntime.create_and_register_allocator(memory, grown)


def _open(path: Any) -> Any:
    options = single_thread_options()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
        raise StartupError(
            f"{path} cannot be loaded ({error}); remove {path.parent}, and start again"
        ) from None
