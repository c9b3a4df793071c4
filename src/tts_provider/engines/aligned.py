"""Word timestamps for an engine that has none, by forced alignment: another engine, which has them,
says the same, and the two recordings are compared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from tts_provider.engines.wrapper import WrapperEngine
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    Engine,
    Samples,
    Sound,
    Utterance,
    Voice,
    Word,
)
from tts_provider.speech.timing.dtw import find_spans

log = logging.getLogger(__name__)


class AlignedEngine(WrapperEngine):
    """Speaks as the engine within does, without delay. If somebody wants word timestamps and the
    engine has none, an empty `Sound` with them follows the utterance."""

    def __init__(self, engine: Engine, references: Sequence[Engine]) -> None:
        """`references` say when they speak their words, the best of a language first. Who made
        them loads and closes them."""
        super().__init__(engine)
        self._references = references
        # One, so that words take one core at most however many streams want them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="words")

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        speech = self._engine.speak(utterance)
        return self._with_words(utterance, speech) if utterance.manner.word_times else speech

    async def _with_words(
        self, utterance: Utterance, speech: AsyncGenerator[Sound, None]
    ) -> AsyncGenerator[Sound, None]:
        heard, has_words = list[Samples](), False
        reference: asyncio.Task[Sound | None] | None = None
        try:
            async with aclosing(speech) as sounds:
                async for sound in sounds:
                    yield sound
                    has_words = has_words or bool(sound.words)
                    if has_words:
                        continue
                    heard.append(sound.samples)
                    if reference is None:  # not before: the first sound has the cores for itself
                        reference = asyncio.create_task(self._refer(utterance))
            if reference is not None and not has_words:
                samples = np.concatenate(heard)
                if words := await self._find_words(utterance, samples, reference):
                    yield Sound(samples[:0], words)
        finally:
            if reference is not None:
                reference.cancel()
                await asyncio.gather(reference, return_exceptions=True)

    async def _find_words(
        self, utterance: Utterance, samples: Samples, referring: asyncio.Task[Sound | None]
    ) -> tuple[Word, ...]:
        """Empty where they cannot be found, which the log says: the speech is there."""
        try:
            reference = await referring
            if reference is None:
                log.warning(
                    "the voice %r has no word timestamps: no engine here can align its language",
                    utterance.voice.id,
                )
                return ()
            loop = asyncio.get_running_loop()
            limit_ms = utterance.manner.max_audio_ms
            is_cut = limit_ms is not None and len(samples) * 1000 >= limit_ms * SAMPLE_RATE
            return await loop.run_in_executor(self._thread, _align, samples, reference, is_cut)
        except Exception:
            log.exception("cannot find the word timestamps of an utterance")
            return ()

    async def _refer(self, utterance: Utterance) -> Sound | None:
        """What somebody else says for the text, and when; None where nobody can read it."""
        for engine, voice in self._speakers(utterance.voice):
            asked = Utterance(utterance.text, voice, is_background=utterance.is_background)
            try:
                async with aclosing(engine.speak(asked)) as sounds:
                    said = [sound async for sound in sounds]
            except InvalidRequest:
                continue
            samples = [np.zeros(0, np.float32), *(sound.samples for sound in said)]
            return Sound(np.concatenate(samples), tuple(w for sound in said for w in sound.words))
        return None

    def _speakers(self, voice: Voice) -> Iterator[tuple[Engine, Voice]]:
        """Who speaks its language: of each engine the voice that is most like it."""
        for engine in self._references:
            able = [v for v in engine.voices() if _language(v) == _language(voice)]
            if able:
                yield engine, max(able, key=lambda other: other.gender == voice.gender)


def _language(voice: Voice) -> str:
    """The first part of its tag: British and American English are one."""
    return voice.language.split("-")[0].lower()


def _align(samples: Samples, reference: Sound, is_cut: bool) -> tuple[Word, ...]:
    known = [(word.start, word.end) for word in reference.words]
    found = find_spans(samples, reference.samples, known, is_cut=is_cut)
    return tuple(
        replace(word, start=start, end=end, is_estimated=True)
        for word, (start, end) in zip(reference.words, found, strict=not is_cut)
    )
