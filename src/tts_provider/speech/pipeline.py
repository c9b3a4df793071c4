"""Passages → engine → tempo, watermark → one continuous timeline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from tts_provider.audio.chain import Chain, Stage
from tts_provider.audio.tempo import Tempo
from tts_provider.errors import InvalidRequest, NoSpeech
from tts_provider.speech.chunker import CHUNKS_MS, Chunker
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Samples, Sound, Utterance, Word
from tts_provider.speech.reading import Passage
from tts_provider.speech.timing.words import time_words

# No sound waits for a pause: it is cut into chunks that are as long at once.
_PAUSE_MS = CHUNKS_MS[-1:]
_SILENCE = SAMPLE_RATE * _PAUSE_MS[0] // 1000
_NONE = Chain(())

LONGEST_LEAD_S = 1.0
"""Of all pauses before the first word together."""

Mark = Callable[[int], Stage]
"""Makes what marks a passage that begins at a sample of the timeline."""


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
    """Where the utterance is `word_times` and the engine has their times."""

    @property
    def is_estimated(self) -> bool:
        """The words' times were found afterwards."""
        return any(word.is_estimated for word in self.words)


def speak(
    engine: Engine,
    utterance: Utterance,
    passages: Iterable[Passage],
    *,
    mark: Mark | None = None,
    longest_s: float = math.inf,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak the passages of one text; chunks follow one another without a gap, and only where the
    utterance is `word_times` each passage's are followed by its `Segment`.

    Raises `NoSpeech` where there is nothing to speak, `InvalidRequest` where there is more than
    `longest_s`, and what the engine raises.
    """
    timeline = _Timeline(0, longest_s, utterance.manner.max_audio_ms)
    return _speak(engine, utterance, _shorten_lead(passages), timeline, mark, is_whole=True)


def speak_passages(
    engine: Engine,
    utterance: Utterance,
    passages: Iterable[Passage],
    start: int = 0,
    *,
    mark: Mark | None = None,
    longest_s: float = math.inf,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one passage after the other from `start` on, each followed by what it was. Raises
    `InvalidRequest` where they are longer than `longest_s`, and what the engine raises."""
    timeline = _Timeline(start, longest_s)
    return _speak(engine, utterance, passages, timeline, mark, is_whole=False)


class _Timeline:
    """Where the next sound is placed, and how much there may be."""

    def __init__(self, start: int, longest_s: float, max_audio_ms: int | None = None) -> None:
        """Up to `max_audio_ms` is cut; more than `longest_s` is wrong."""
        self.position = start
        """Samples until now, those that were cut off too."""
        self.is_audible = False
        self._longest_s = longest_s
        self._longest = math.inf if longest_s == math.inf else start + longest_s * SAMPLE_RATE
        self._limit = None if max_audio_ms is None else SAMPLE_RATE * max_audio_ms // 1000

    def place(self, samples: Samples) -> AudioChunk | None:
        """What of it is heard. Raises `InvalidRequest` where it is too much."""
        start, self.position = self.position, self.position + len(samples)
        chunk = AudioChunk(samples[: max(0, self.cut(self.position) - start)], start)
        if not len(chunk.samples):
            return None
        if chunk.end > self._longest:
            raise InvalidRequest(
                f"the audio is longer than {self._longest_s:g} s, the limit for one request; "
                "send less text",
                code="audio_too_long",
                param="text",
            )
        self.is_audible = self.is_audible or bool(chunk.samples.any())
        return chunk

    def cut(self, position: int) -> int:
        return position if self._limit is None else min(position, self._limit)

    @property
    def is_full(self) -> bool:
        return self._limit is not None and self.position >= self._limit

    @property
    def is_beyond(self) -> bool:
        """There is more than is heard."""
        return self._limit is not None and self.position > self._limit


async def _speak(
    engine: Engine,
    utterance: Utterance,
    passages: Iterable[Passage],
    timeline: _Timeline,
    mark: Mark | None,
    *,
    is_whole: bool,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    asked, change = _within_speeds(engine, utterance)
    ramp = Chunker(change)
    for passage in passages:
        began, known = timeline.position, list[Word]()
        if passage.spoken:
            text, phonemes = passage.spoken, passage.phonemes
            speech = engine.speak(replace(asked, text=text, phonemes=phonemes, begun=began > 0))
            chunker, chain = ramp, Chain(_stages(change, mark, began))
        else:
            speech, chunker, chain = _silence(passage.pause_s), Chunker(lengths_ms=_PAUSE_MS), _NONE
        async with aclosing(speech):
            async for sound in speech:
                known += sound.words
                for samples in chunker.push(sound.samples):
                    if (chunk := timeline.place(await chain.push(samples))) is not None:
                        yield chunk
                # Who wants words hears of those before the limit when their passage is over. An
                # engine that ends at the limit itself may remember what it said.
                if timeline.is_beyond and not utterance.manner.word_times:
                    return
        if (chunk := timeline.place(await chain.finish(chunker.finish()))) is not None:
            yield chunk
        if utterance.manner.word_times or not is_whole:
            end, words = timeline.cut(timeline.position), list[Word]()
            if utterance.manner.word_times:
                words = time_words(passage, known)
            placed = (_placed(word, change, began, end) for word in words)
            heard = tuple(word for word in placed if word.start < end or not timeline.is_full)
            yield Segment(passage.text, began, end, heard)
        if timeline.is_full:
            break
    if is_whole and not timeline.is_audible:
        raise nothing_to_speak()


def _within_speeds(engine: Engine, utterance: Utterance) -> tuple[Utterance, float]:
    """What the engine is asked for, and how much faster than that it shall be."""
    slowest, fastest = engine.of(utterance.voice).speeds
    manner = utterance.manner
    own = min(max(manner.speed, slowest), fastest)
    change = manner.speed / own
    limit_ms = manner.max_audio_ms
    if limit_ms is not None:
        limit_ms = round(limit_ms * max(change, 1.0))
    return replace(utterance, manner=replace(manner, speed=own, max_audio_ms=limit_ms)), change


def _stages(change: float, mark: Mark | None, start: int) -> list[Stage]:
    stages: list[Stage] = []
    if change != 1:
        stages.append(Tempo(SAMPLE_RATE, change))
    if mark is not None:
        stages.append(mark(start))
    return stages


async def _silence(pause_s: float) -> AsyncGenerator[Sound, None]:
    left = round(pause_s * SAMPLE_RATE)
    while left:
        count = min(left, _SILENCE)
        yield Sound(np.zeros(count, np.float32))
        left -= count
        # No engine is waited for here: others' turns come between chunks.
        await asyncio.sleep(0)


def _placed(word: Word, change: float, start: int, end: int) -> Word:
    """A word of a passage on a timeline, which has it from `start` to `end`."""
    begin, finish = (min(start + round(at / change), end) for at in (word.start, word.end))
    return replace(word, start=begin, end=finish)


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
        elif passage.spoken:
            yield from lead
            yield passage
            begun = True
        else:
            lead.append(shorten_lead(passage, position))
            position += round(lead[-1].pause_s * SAMPLE_RATE)


def nothing_to_speak() -> NoSpeech:
    return NoSpeech("text has nothing that can be spoken; send words or numbers", param="text")
