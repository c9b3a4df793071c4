"""Stage 1, data: each word of the vocabulary once, in both embedded voices, cut into frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import numpy as np

from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.speech.engine import Manner, Utterance, Voice

FRAME = 1920
"""Samples of 24 kHz in a frame, 80 ms."""

UNKNOWN = "what"
"""What is said for a word that the model does not know."""

WORDS = (
    *["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    *["yes", "no", "hello", "please", "red", "blue", "door", "dog", "stop"],
    UNKNOWN,
)

_RMS = 0.1
_QUIET = 0.004
_EDGE = 240  # samples that fade in and out at a word's ends


def cut_word(samples: np.ndarray) -> np.ndarray:
    """A word without the silence around it, at one loudness, in whole frames: (frames, FRAME)."""
    samples = samples * (_RMS / np.sqrt(np.mean(samples[np.abs(samples) > 0.01] ** 2)))
    loud = np.flatnonzero(np.abs(samples) > _QUIET)
    word = samples[max(0, loud[0] - _EDGE) : loud[-1] + _EDGE]
    ramp = np.linspace(0, 1, _EDGE, dtype=np.float32)
    word[:_EDGE] *= ramp
    word[-_EDGE:] *= ramp[::-1]
    frames = -(-len(word) // FRAME)
    return np.pad(word, (0, frames * FRAME - len(word))).reshape(frames, FRAME)


async def speak_words() -> dict[tuple[str, int], np.ndarray]:
    """(word, speaker) → its frames (n, FRAME), float32."""
    bank = {}
    async with hibari() as engine:
        for voice in engine.voices():
            for word in WORDS:
                bank[word, voice.speaker] = cut_word(await _speak(engine, f"{word}.", voice))
    return bank


async def speak_lists(count: int, seed: int) -> list[tuple[tuple[str, ...], int, np.ndarray]]:
    """`count` lists of words, as each voice reads them aloud: words, speaker, samples."""
    random = np.random.default_rng(seed)
    spoken = []
    async with hibari() as engine:
        for _ in range(count):
            words = tuple(map(str, random.choice(WORDS, random.integers(8, 13), replace=False)))
            text = random.choice((", ", " ")).join(words) + "."
            for voice in engine.voices():
                spoken.append((words, voice.speaker, await _speak(engine, text, voice)))
    return spoken


@contextlib.asynccontextmanager
async def hibari() -> AsyncIterator[HibariEngine]:
    engine = HibariEngine(read_model(), threads=2)
    await engine.load(lambda _: None)
    try:
        yield engine
    finally:
        await engine.close()


async def _speak(engine: HibariEngine, text: str, voice: Voice) -> np.ndarray:
    said = Utterance(text, voice, Manner(seed=0))
    return np.concatenate([chunk.samples async for chunk in engine.speak(said)])
