"""Stage 1, data: each word of the vocabulary once, in both embedded voices, cut into frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from sentences import SENTENCES
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.speech.engine import Engine, Manner, Utterance, Voice

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


@dataclass(frozen=True)
class Reading:
    """What a voice prompt may be."""

    text: str
    engine: str
    gender: str
    is_list: bool
    """Of the vocabulary's words; else a sentence of any."""
    samples: np.ndarray


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


async def read_aloud(count: int, seed: int) -> list[Reading]:
    """`count` lists of words and `SENTENCES`, as hibari and espeak-ng read them aloud."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        words = tuple(map(str, random.choice(WORDS, random.integers(3, 13), replace=False)))
        texts.append(random.choice((", ", " ")).join(words) + ".")
    readings = []
    async with hibari() as engine:
        for speaking, voices in ((engine, engine.voices()), (EspeakEngine(), VOICES)):
            for voice in voices:
                for is_list, read in ((True, texts), (False, SENTENCES)):
                    for text in read:
                        samples = await _speak(speaking, text, voice)
                        readings.append(Reading(text, voice.source, voice.gender, is_list, samples))
    return readings


@contextlib.asynccontextmanager
async def hibari() -> AsyncIterator[HibariEngine]:
    engine = HibariEngine(read_model(), threads=2)
    await engine.load(lambda _: None)
    try:
        yield engine
    finally:
        await engine.close()


async def _speak(engine: Engine, text: str, voice: Voice) -> np.ndarray:
    said = Utterance(text, voice, Manner(seed=0))
    return np.concatenate([chunk.samples async for chunk in engine.speak(said)])
