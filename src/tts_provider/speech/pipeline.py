"""Passages → engine → speed → one continuous timeline."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from tts_provider.audio.tempo import StreamTempo
from tts_provider.errors import NoSpeech
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    AudioChunk,
    Engine,
    Samples,
    Utterance,
    WordTime,
)
from tts_provider.speech.reading import Passage

# Chunks grow while they run ahead of the listener: the first sound leaves at once, later messages
# are fewer. In samples.
_CHUNK_RAMP = tuple(SAMPLE_RATE * ms // 1000 for ms in (80, 160, 240, 320))


@dataclass(frozen=True)
class Segment:
    """The written text that a stretch of the timeline speaks; start and end in samples."""

    text: str
    start: int
    end: int


async def speak(
    engine: Engine, utterance: Utterance, passages: Iterable[Passage]
) -> AsyncGenerator[AudioChunk, None]:
    """Speak the passages of one text; chunks follow one another without a gap.

    Raises `NoSpeech` where there is nothing to speak, and what the engine raises.
    """
    limit = None
    if utterance.max_audio_ms is not None:
        limit = SAMPLE_RATE * utterance.max_audio_ms // 1000
    audible = False
    async with aclosing(speak_passages(engine, utterance, passages)) as items:
        async for item in items:
            if isinstance(item, Segment):
                continue
            yield item if limit is None else _cut(item, limit)
            audible = audible or bool(item.samples.any())
            if limit is not None and item.end >= limit:
                return
    if not audible:
        raise nothing_to_speak()


async def speak_passages(
    engine: Engine, utterance: Utterance, passages: Iterable[Passage], start: int = 0
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one passage after the other from `start` on, each followed by what it was."""
    position, sent = start, 0
    for passage in passages:
        if passage.pause_s:
            end = position + round(passage.pause_s * SAMPLE_RATE)
            began = position
            while position < end:
                count = min(end - position, _CHUNK_RAMP[-1])
                yield AudioChunk(np.zeros(count, np.float32), position)
                position += count
            yield Segment("", began, position)
            continue
        began, held, count, words = position, list[Samples](), 0, list[WordTime]()
        asked = replace(
            utterance, text=passage.words, phonemes=passage.phonemes, begun=position > 0
        )
        async with aclosing(_speak_words(engine, asked)) as pieces:
            async for samples, timed in pieces:
                held.append(samples)
                count += len(samples)
                words += (
                    replace(word, start=word.start + began, end=word.end + began) for word in timed
                )
                if count >= _CHUNK_RAMP[min(sent, len(_CHUNK_RAMP) - 1)]:
                    yield AudioChunk(np.concatenate(held), position, tuple(words))
                    position, sent, held, count = position + count, sent + 1, [], 0
                    words = []
        if count:
            yield AudioChunk(np.concatenate(held), position, tuple(words))
            position, sent = position + count, sent + 1
        yield Segment(passage.text, began, position)


async def _speak_words(
    engine: Engine, utterance: Utterance
) -> AsyncGenerator[tuple[Samples, list[WordTime]], None]:
    """One passage's audio and its words' times, at speeds that the engine does not have too."""
    slowest, fastest = engine.of(utterance.voice).speeds
    own = min(max(utterance.speed, slowest), fastest)
    change = utterance.speed / own
    limit_ms = utterance.max_audio_ms
    asked = replace(
        utterance,
        speed=own,
        max_audio_ms=None if limit_ms is None else round(limit_ms * max(change, 1.0)),
    )
    tempo = StreamTempo(SAMPLE_RATE, change)
    async with aclosing(engine.speak(asked)) as chunks:
        async for chunk in chunks:
            timed = [
                replace(word, start=round(word.start / change), end=round(word.end / change))
                for word in chunk.words
            ]
            samples = await tempo.push(chunk.samples)
            if len(samples) or timed:
                yield samples, timed
    samples = await tempo.push(np.zeros(0, np.float32), last=True)
    if len(samples):
        yield samples, []


def _cut(chunk: AudioChunk, limit: int) -> AudioChunk:
    """What of it is before the sample `limit`."""
    words = (word for word in chunk.words if word.start < limit)
    return AudioChunk(
        chunk.samples[: limit - chunk.start],
        chunk.start,
        tuple(replace(word, end=min(word.end, limit)) for word in words),
    )


def nothing_to_speak() -> NoSpeech:
    return NoSpeech("text has nothing that can be spoken; send words or numbers", param="text")
