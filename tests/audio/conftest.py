from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.speech.engine import Utterance


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """The embedded voice, 1.3 s: float32, 24 kHz, (n,). Words that a recognizer still knows at
    8 kHz, which has no "six"."""

    async def speak() -> np.ndarray:
        engine = EspeakEngine()
        await engine.load(lambda message: None)
        utterance = Utterance(text="seven nine eight five.", voice=engine.voices()[0])
        async with aclosing(engine.speak(utterance)) as chunks:
            samples = np.concatenate([chunk.samples async for chunk in chunks])
        await engine.close()
        return samples

    return asyncio.run(speak())
