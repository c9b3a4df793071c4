"""Passages → engine → speed → one continuous timeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from tts_provider.audio.tempo import StreamTempo
from tts_provider.errors import InvalidRequest, NoSpeech
from tts_provider.speech.chunker import CHUNKS_MS, Chunker
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    Engine,
    Samples,
    Utterance,
    Word,
)
from tts_provider.speech.reading import Passage
from tts_provider.speech.timing.words import time_words

_SILENCE = SAMPLE_RATE * CHUNKS_MS[-1] // 1000

LONGEST_LEAD_S = 1.0
"""Of all pauses before the first word together."""


@dataclass(frozen=True)
class AudioChunk:
    """Sound that has its place on a timeline."""

    samples: Samples  # (n,) float32, 24 kHz
    start: int
    """In samples."""

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


@dataclass(frozen=True)
class Segment:
    """The written text that a stretch of the timeline speaks; start and end in samples."""

    text: str
    start: int
    end: int
    words: tuple[Word, ...] = ()
    """Where the utterance is `with_words` and the engine has their times."""

    @property
    def is_estimated(self) -> bool:
        """The words' times were found afterwards."""
        return any(word.is_estimated for word in self.words)


async def speak(
    engine: Engine, utterance: Utterance, passages: Iterable[Passage]
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak the passages of one text; chunks follow one another without a gap, and only where the
    utterance is `with_words` each passage's are followed by its `Segment`.

    Raises `NoSpeech` where there is nothing to speak, and what the engine raises.
    """
    limit = None
    if utterance.max_audio_ms is not None:
        limit = SAMPLE_RATE * utterance.max_audio_ms // 1000
    audible = False
    spoken = _shorten_lead(passages)
    async with aclosing(speak_passages(engine, utterance, spoken)) as items:
        async for item in items:
            if isinstance(item, Segment):
                if utterance.with_words:
                    yield item if limit is None else _cut_segment(item, limit)
                if limit is not None and item.end >= limit:
                    return
                continue
            if limit is None or item.start < limit:
                audible = audible or bool(item.samples.any())
                yield item if limit is None else _cut_chunk(item, limit)
            # Who wants words hears of those before the limit when their passage is over. An engine
            # that ends at the limit itself does so in its own way: it may remember what it said.
            if limit is not None and item.end > limit and not utterance.with_words:
                return
    if not audible:
        raise nothing_to_speak()


async def speak_passages(
    engine: Engine, utterance: Utterance, passages: Iterable[Passage], start: int = 0
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one passage after the other from `start` on, each followed by what it was."""
    position, chunker = start, Chunker()
    for passage in passages:
        if not passage.words:
            end = position + round(passage.pause_s * SAMPLE_RATE)
            began = position
            while position < end:
                count = min(end - position, _SILENCE)
                yield AudioChunk(np.zeros(count, np.float32), position)
                position += count
                # No engine is waited for here: others' turns come between chunks.
                await asyncio.sleep(0)
            yield Segment("", began, position)
            continue
        began, times = position, list[Word]()
        asked = replace(
            utterance, text=passage.words, phonemes=passage.phonemes, begun=position > 0
        )
        async with aclosing(_speak_words(engine, asked)) as pieces:
            async for samples, known in pieces:
                times += known
                for chunk in chunker.push(samples):
                    yield AudioChunk(chunk, position)
                    position += len(chunk)
        for chunk in chunker.finish():
            yield AudioChunk(chunk, position)
            position += len(chunk)
        words: list[Word] = []
        if utterance.with_words:
            words = time_words(passage, times)
        yield Segment(passage.text, began, position, _placed(words, began, position))


async def bounded(
    items: AsyncGenerator[AudioChunk | Segment, None], longest_s: float, start: int = 0
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """The same up to `longest_s` after the sample `start`. Raises `InvalidRequest` where there is
    more."""
    limit = start + round(longest_s * SAMPLE_RATE)
    async with aclosing(items):
        async for item in items:
            if item.end > limit:
                raise InvalidRequest(
                    f"the audio is longer than {longest_s:g} s, the limit for one request; "
                    "send less text",
                    code="audio_too_long",
                    param="text",
                )
            yield item


def check_pauses(pauses_s: float, longest_s: float) -> None:
    """Raises `InvalidRequest` where a text asks for more silence than a request may have."""
    if pauses_s > longest_s:
        raise InvalidRequest(
            f"the pauses are {pauses_s:g} s long together; the audio of one request may have "
            f"{longest_s:g} s",
            code="audio_too_long",
            param="text",
        )


def shorten_lead(pause: Passage, position: int) -> Passage:
    """A pause before the first word of a timeline, which is `position` samples long by now."""
    left_s = max(0.0, LONGEST_LEAD_S - position / SAMPLE_RATE)
    return replace(pause, pause_s=min(pause.pause_s, left_s))


def _shorten_lead(passages: Iterable[Passage]) -> Iterator[Passage]:
    """The passages of a whole text; none where it has nothing but pauses."""
    lead, position, begun = list[Passage](), 0, False
    for passage in passages:
        if begun:
            yield passage
        elif passage.words:
            yield from lead
            yield passage
            begun = True
        else:
            lead.append(shorten_lead(passage, position))
            position += round(lead[-1].pause_s * SAMPLE_RATE)


async def _speak_words(
    engine: Engine, utterance: Utterance
) -> AsyncGenerator[tuple[Samples, list[Word]], None]:
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
            yield await tempo.push(chunk.samples), timed
    yield await tempo.push(np.zeros(0, np.float32), last=True), []


def _placed(words: Iterable[Word], start: int, end: int) -> tuple[Word, ...]:
    """Words of a passage on a timeline, which it has from `start` to `end`."""
    return tuple(
        replace(word, start=min(word.start + start, end), end=min(word.end + start, end))
        for word in words
    )


def _cut_chunk(chunk: AudioChunk, limit: int) -> AudioChunk:
    """What of it is before the sample `limit`."""
    return AudioChunk(chunk.samples[: limit - chunk.start], chunk.start)


def _cut_segment(segment: Segment, limit: int) -> Segment:
    """What of it is before the sample `limit`."""
    words = [
        replace(word, end=min(word.end, limit)) for word in segment.words if word.start < limit
    ]
    return replace(segment, end=min(segment.end, limit), words=tuple(words))


def nothing_to_speak() -> NoSpeech:
    return NoSpeech("text has nothing that can be spoken; send words or numbers", param="text")
