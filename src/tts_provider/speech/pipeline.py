"""Passages → engine → tempo, watermark → one continuous timeline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np

from tts_provider.audio.chain import Chain, Stage
from tts_provider.audio.tempo import Tempo
from tts_provider.errors import NoSpeech, part_named
from tts_provider.speech.chunker import CHUNKS_MS, Chunker
from tts_provider.speech.duration import speech_too_long
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    Engine,
    Samples,
    Sound,
    Utterance,
    Voice,
    Word,
)
from tts_provider.speech.reading import Passage
from tts_provider.speech.timing.word_times import time_words
from tts_provider.speech.transcript import SpokenPassage, Transcript

# No sound waits for a pause: it is cut into chunks that are as long at once.
_PAUSE_MS = CHUNKS_MS[-1:]
_SILENCE = SAMPLE_RATE * _PAUSE_MS[0] // 1000
_NONE = Chain(())

_LONGEST_LEAD_S = 1.0  # of all pauses before the first word together
# The engine's own silence before its first word follows them.
_LONGEST_HELD = round(2 * _LONGEST_LEAD_S * SAMPLE_RATE)

# The end of a voice's last sound, which is kept even if the next voice begins at once.
_QUIET = 10 ** (-45 / 20)
_KEPT_QUIET = SAMPLE_RATE * 20 // 1000

Mark = Callable[[int], Stage]
"""Makes what marks a passage that begins at a sample of the timeline."""
MarkOf = Callable[[Voice], Awaitable[Mark | None]]
"""What marks passages in a voice."""


@dataclass(frozen=True)
class AudioChunk:
    """Sound with its place on a timeline."""

    samples: Samples  # (n,) float32, 24 kHz
    start: int
    """In samples."""

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


@dataclass(frozen=True)
class Segment:
    """The written text that a stretch of the timeline speaks; start and end are in samples."""

    text: str
    start: int
    end: int
    words: tuple[Word, ...] = ()
    """Where the utterance is `word_times` and the engine has their times."""
    voice: str = ""
    """The id of who says it, where that is not the only voice."""


@dataclass(frozen=True)
class Turn:
    """What one of several speakers says."""

    utterance: Utterance
    passages: Iterable[Passage]
    number: int | None = None
    """In a dialogue, from 0."""
    name: str | None = None
    """What the request calls it."""
    is_interrupted: bool = False
    """The quiet that it ends with is cut off."""


@dataclass
class Progress:
    """How far a timeline has come."""

    position: int = 0
    """Samples until now, those that were cut off too."""
    is_audible: bool = False
    """Something of it can be heard."""
    transcript: Transcript | None = None
    """Where somebody may interrupt."""


def speak(
    engine: Engine,
    utterance: Utterance,
    passages: Iterable[Passage],
    *,
    mark_of: MarkOf | None = None,
    longest_s: float = math.inf,
    holds_silence: bool = False,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak the passages of one text; chunks follow one another without a gap, and only where the
    utterance is `word_times` each passage's are followed by its `Segment`. With `holds_silence` the
    first chunk is audible, or longer than any silence before speech: until then it may turn out
    that there is nothing to hear.

    Raises `NoSpeech` where there is nothing to speak, `InvalidRequest` where there is more than
    `longest_s`, and what the engine raises.
    """
    turn = Turn(utterance, passages)
    return speak_turns(
        engine, [turn], mark_of=mark_of, longest_s=longest_s, holds_silence=holds_silence
    )


def speak_turns(
    engine: Engine,
    turns: Sequence[Turn],
    *,
    pause_s: float = 0.0,
    mark_of: MarkOf | None = None,
    longest_s: float = math.inf,
    holds_silence: bool = False,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one turn, or several, as `speak` does; between two is a silence, unless the first of
    them `is_interrupted`. How much is heard at most, the first turn says."""
    placing = _Placing(Progress(), longest_s, turns[0].utterance.manner.max_audio_ms, holds_silence)
    apart = [replace(turns[0], passages=_shorten_lead(turns[0].passages))]
    for before, turn in pairwise(turns):
        paused = 0.0 if before.is_interrupted else pause_s
        pause = [Passage("", "", pause_s=paused)] if paused else []
        apart.append(replace(turn, passages=chain.from_iterable((pause, turn.passages))))
    return _speak(engine, apart, placing, mark_of, is_whole=True)


def speak_passages(
    engine: Engine,
    utterance: Utterance,
    passages: Iterable[Passage],
    progress: Progress | None = None,
    *,
    mark_of: MarkOf | None = None,
    longest_s: float = math.inf,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """Speak one passage after the other where the timeline's `progress` is, and goes on, each
    followed by what it was. Raises `InvalidRequest` where they are longer than `longest_s`, and
    what the engine raises."""
    progress = progress or Progress()
    passages = (
        passage if passage.spoken or progress.is_audible else _shortened(passage, progress.position)
        for passage in passages
    )
    placing = _Placing(progress, longest_s)
    return _speak(engine, [Turn(utterance, passages)], placing, mark_of, is_whole=False)


class _Placing:
    """Where the next sound goes, and how much there may be."""

    def __init__(
        self,
        progress: Progress,
        longest_s: float,
        max_audio_ms: int | None = None,
        holds_silence: bool = False,
    ) -> None:
        """Up to `max_audio_ms` is cut; more than `longest_s` is wrong."""
        self.progress = progress
        self._longest_s = longest_s
        self._longest = math.inf
        if longest_s != math.inf:
            self._longest = progress.position + longest_s * SAMPLE_RATE
        self._limit = None if max_audio_ms is None else SAMPLE_RATE * max_audio_ms // 1000
        self._held: list[Samples] | None = [] if holds_silence else None

    def place(self, samples: Samples) -> AudioChunk | None:
        """The part of the sound that is heard now. Raises `InvalidRequest` if there is too much."""
        progress = self.progress
        start, progress.position = progress.position, progress.position + len(samples)
        chunk = AudioChunk(samples[: max(0, self.cut(progress.position) - start)], start)
        if not len(chunk.samples):
            return None
        if chunk.end > self._longest:
            raise speech_too_long(
                f"the speech is longer than {self._longest_s:g} s, the limit for one request"
            )
        progress.is_audible = progress.is_audible or bool(chunk.samples.any())
        return chunk if self._held is None else self._hold(chunk)

    def _hold(self, chunk: AudioChunk) -> AudioChunk | None:
        assert self._held is not None
        self._held.append(chunk.samples)
        if not (self.progress.is_audible or self.is_full) and chunk.end <= _LONGEST_HELD:
            return None
        samples, self._held = np.concatenate(self._held), None
        return AudioChunk(samples, chunk.end - len(samples))

    def cut(self, position: int) -> int:
        return position if self._limit is None else min(position, self._limit)

    @property
    def is_holding(self) -> bool:
        """Whether nothing was heard yet."""
        return self._held is not None

    @property
    def is_full(self) -> bool:
        return self._limit is not None and self.progress.position >= self._limit

    @property
    def is_beyond(self) -> bool:
        """Whether there is more sound than may be heard."""
        return self._limit is not None and self.progress.position > self._limit


async def _speak(
    engine: Engine,
    turns: Iterable[Turn],
    placing: _Placing,
    mark_of: MarkOf | None,
    *,
    is_whole: bool,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    ramps = dict[float, Chunker]()
    for turn in turns:
        with part_named(turn.name):
            for passage, is_last in _with_last(turn):
                voice = passage.voice or turn.utterance.voice
                utterance = replace(turn.utterance, voice=voice)
                mark = None if mark_of is None or not passage.spoken else await mark_of(voice)
                tail = _Tail() if is_last and turn.is_interrupted else None
                spoken = _speak_passage(engine, utterance, passage, placing, mark, ramps, tail)
                async with aclosing(spoken):
                    async for item in spoken:
                        if isinstance(item, AudioChunk):
                            yield item
                        elif is_whole and not utterance.manner.word_times:
                            continue
                        else:
                            yield _told(item, passage, turn)
                if placing.is_full:
                    break
        if placing.is_full:
            break
    if is_whole and not (placing.progress.is_audible or placing.is_beyond):
        raise nothing_to_speak()


async def _speak_passage(
    engine: Engine,
    utterance: Utterance,
    passage: Passage,
    placing: _Placing,
    mark: Mark | None,
    ramps: dict[float, Chunker],
    tail: _Tail | None,
) -> AsyncGenerator[AudioChunk | Segment, None]:
    """`ramps` are the chunkers of what was spoken before, by the speed that they are for."""
    progress, asks_words = placing.progress, utterance.manner.word_times
    began, known = progress.position, list[Word]()
    asked, change = _within_speeds(engine, utterance)
    record = SpokenPassage(passage, began, change, utterance.manner.speed, known)
    if progress.transcript is not None:
        progress.transcript.begin(record)
    remembered = utterance.history.count
    if passage.spoken:
        text, phonemes = passage.spoken, passage.phonemes
        speech = engine.speak(replace(asked, text=text, phonemes=phonemes, begun=began > 0))
        chunker = ramps.setdefault(change, Chunker(change))
        stages = Chain(_stages(change, mark, began))
    else:
        speech, chunker = _silence(passage.pause_s), Chunker(lengths_ms=_PAUSE_MS)
        stages = _NONE
    try:
        async with aclosing(speech):
            async for sound in speech:
                known += sound.words
                for cut in chunker.push(sound.samples):
                    samples = await stages.push(cut)
                    samples = samples if tail is None else tail.push(samples)
                    if (chunk := placing.place(samples)) is not None:
                        yield chunk
                # Words before the limit are reported when their passage is over. An
                # engine that ends at the limit itself may remember what it said.
                if placing.is_beyond and not asks_words:
                    return
    finally:
        if utterance.history.count > remembered:
            record.remembered = utterance.history.segments[-1]
    samples = await stages.finish(chunker.finish())
    samples = samples if tail is None else tail.push(samples)
    if (chunk := placing.place(samples)) is not None:
        yield chunk
    if placing.is_holding:
        return
    record.end = end = placing.cut(progress.position)
    words = time_words(passage, known) if asks_words else []
    placed = (_placed(word, change, began, end) for word in words)
    heard = tuple(word for word in placed if word.start < end or not placing.is_full)
    yield Segment(passage.text, began, end, heard)


def _told(segment: Segment, passage: Passage, turn: Turn) -> Segment:
    """The segment; with its voice and turn if there is more than one voice."""
    if turn.number is None and passage.voice is None:
        return segment
    voice = (passage.voice or turn.utterance.voice).id
    words = tuple(replace(word, voice=voice, turn=turn.number) for word in segment.words)
    return replace(segment, words=words, voice=voice)


def _with_last(turn: Turn) -> Iterator[tuple[Passage, bool]]:
    """Yield each passage with whether it is the last, which only matters for an interruption."""
    if not turn.is_interrupted:
        yield from ((passage, False) for passage in turn.passages)
        return
    rest = iter(turn.passages)
    passage = next(rest, None)
    while passage is not None:
        following = next(rest, None)
        yield passage, following is None
        passage = following


class _Tail:
    """Holds back what may be the silence after the last sound."""

    def __init__(self) -> None:
        self._held: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Samples:
        """Return the samples up to a little after the last sound so far."""
        samples = np.concatenate([self._held, samples])
        loud = np.flatnonzero(np.abs(samples) > _QUIET)
        end = min(int(loud[-1]) + 1 + _KEPT_QUIET, len(samples)) if len(loud) else 0
        self._held = samples[end:]
        return samples[:end]


def _within_speeds(engine: Engine, utterance: Utterance) -> tuple[Utterance, float]:
    """The speed that the engine is asked for, and how much faster than that the sound must
    become."""
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
        # No engine is waited for here, so others take their turns between chunks.
        await asyncio.sleep(0)


def _placed(word: Word, change: float, start: int, end: int) -> Word:
    """A word of a passage, placed on a timeline that has the passage from `start` to `end`."""
    begin, finish = (min(start + round(at / change), end) for at in (word.start, word.end))
    return replace(word, start=begin, end=finish)


def _shortened(pause: Passage, position: int) -> Passage:
    """A pause before the first word of a timeline, which is `position` samples long by now."""
    left_s = max(0.0, _LONGEST_LEAD_S - position / SAMPLE_RATE)
    return replace(pause, pause_s=min(pause.pause_s, left_s))


def _shorten_lead(passages: Iterable[Passage]) -> Iterator[Passage]:
    """The passages of a whole text with a short lead; none if the text has only pauses."""
    lead, position, begun = list[Passage](), 0, False
    for passage in passages:
        if begun:
            yield passage
        elif passage.spoken:
            yield from lead
            yield passage
            begun = True
        else:
            lead.append(_shortened(passage, position))
            position += round(lead[-1].pause_s * SAMPLE_RATE)


def nothing_to_speak() -> NoSpeech:
    return NoSpeech("the text has nothing that can be spoken; send words or numbers", param="text")
