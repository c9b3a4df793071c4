"""Text → segments → engine → one continuous timeline."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from tts_provider.errors import NoSpeech
from tts_provider.speech.engine import SAMPLE_RATE, AudioChunk, Engine, Samples, Utterance
from tts_provider.speech.segment import split_segments

# Chunks grow while they run ahead of the listener: the first sound leaves at once, later messages
# are fewer. In samples.
_CHUNK_RAMP = tuple(SAMPLE_RATE * ms // 1000 for ms in (80, 160, 240, 320))


@dataclass(frozen=True)
class Segment:
    """The text that a stretch of the timeline speaks; start and end in samples."""

    text: str
    start: int
    end: int


async def speak(engine: Engine, utterance: Utterance) -> AsyncGenerator[AudioChunk, None]:
    """Speak a text of any length; chunks follow one another without a gap.

    Raises `NoSpeech` where the text has nothing to speak, and what the engine raises.
    """
    limit = None
    if utterance.max_audio_ms is not None:
        limit = SAMPLE_RATE * utterance.max_audio_ms // 1000
    audible = False
    items = speak_segments(engine, utterance, split_segments(utterance.text))
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Segment):
                continue
            rest = len(item.samples) if limit is None else limit - item.start
            yield replace(item, samples=item.samples[:rest])
            audible = audible or bool(item.samples.any())
            if limit is not None and item.end >= limit:
                return
    if not audible:
        raise nothing_to_speak()


async def speak_segments(
    engine: Engine, utterance: Utterance, texts: Iterable[str], start: int = 0
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one segment after the other from `start` on, each followed by what it was."""
    position, sent = start, 0
    for text in texts:
        began, held, count = position, list[Samples](), 0
        async with aclosing(_speak_segment(engine, replace(utterance, text=text))) as pieces:
            async for samples in pieces:
                held.append(samples)
                count += len(samples)
                if count >= _CHUNK_RAMP[min(sent, len(_CHUNK_RAMP) - 1)]:
                    yield AudioChunk(np.concatenate(held), position)
                    position, sent, held, count = position + count, sent + 1, [], 0
        if count:
            yield AudioChunk(np.concatenate(held), position)
            position, sent = position + count, sent + 1
        yield Segment(text, began, position)


async def _speak_segment(engine: Engine, utterance: Utterance) -> AsyncGenerator[Samples, None]:
    try:
        async with aclosing(engine.speak(utterance)) as chunks:
            async for chunk in chunks:
                yield chunk.samples
    except NoSpeech:
        # A line of asterisks between paragraphs is no reason to stop.
        if any(character.isalnum() for character in utterance.text):
            raise


def nothing_to_speak() -> NoSpeech:
    return NoSpeech("text has nothing that can be spoken; send words or numbers", param="text")
