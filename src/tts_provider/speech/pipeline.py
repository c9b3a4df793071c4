"""Text → segments → engine → one continuous timeline."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from tts_provider.errors import NoSpeech
from tts_provider.speech.engine import SAMPLE_RATE, AudioChunk, Engine, Samples, Utterance
from tts_provider.speech.segment import split_segments

# Chunks grow while they run ahead of the listener: the first sound leaves at once, later messages
# are fewer. In samples.
_CHUNK_RAMP = tuple(SAMPLE_RATE * ms // 1000 for ms in (80, 160, 240, 320))


async def speak(engine: Engine, utterance: Utterance) -> AsyncGenerator[AudioChunk, None]:
    """Speak a text of any length; chunks follow one another without a gap.

    Raises `NoSpeech` where the text has nothing to speak, and what the engine raises.
    """
    limit = None
    if utterance.max_audio_ms is not None:
        limit = SAMPLE_RATE * utterance.max_audio_ms // 1000
    position, audible = 0, False
    async with aclosing(_ramp(_speak_segments(engine, utterance))) as chunks:
        async for samples in chunks:
            rest = len(samples) if limit is None else limit - position
            yield AudioChunk(samples[:rest], position)
            position += len(samples)
            audible = audible or bool(samples.any())
            if limit is not None and position >= limit:
                return
    if not audible:
        raise NoSpeech("text has nothing that can be spoken; send words or numbers", param="text")


async def _speak_segments(engine: Engine, utterance: Utterance) -> AsyncGenerator[Samples, None]:
    for text in split_segments(utterance.text):
        async with aclosing(engine.speak(replace(utterance, text=text))) as chunks:
            async for chunk in chunks:
                yield chunk.samples


async def _ramp(source: AsyncGenerator[Samples, None]) -> AsyncGenerator[Samples, None]:
    held: list[Samples] = []
    count = sent = 0
    async with aclosing(source):
        async for samples in source:
            held.append(samples)
            count += len(samples)
            if count >= _CHUNK_RAMP[min(sent, len(_CHUNK_RAMP) - 1)]:
                yield np.concatenate(held)
                held, count, sent = [], 0, sent + 1
    if count:
        yield np.concatenate(held)
