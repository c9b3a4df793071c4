"""Combines several engines: one list of voices, each with the engine that speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from tts_provider.engines.wrapper import WrapperEngine
from tts_provider.errors import WireError
from tts_provider.speech.engine import Engine, Sound, Utterance, Voice


class Ensemble(WrapperEngine):
    """The first engine is the server's main one: its properties are those of the ensemble, and `of`
    a voice returns the others. It has the speakers 0 and 1. If two engines have a voice, it is the
    first's."""

    def __init__(self, engines: Sequence[Engine], *, speak_while_loading: bool = False) -> None:
        """With `speak_while_loading` the first engine is loaded last, and the others speak."""
        super().__init__(engines[0])
        self._engines = engines
        self._speak_while_loading = speak_while_loading
        self._loaded = {engine: asyncio.Event() for engine in engines}
        self.speeds = Engine.speeds  # that all of them have
        self.collectors = tuple(dict.fromkeys(c for engine in engines for c in engine.collectors))
        self.takes_prompts = any(engine.takes_prompts for engine in engines)
        self._voices: dict[str, tuple[Voice, Engine]] = {}
        for engine in engines:
            for voice in engine.voices():
                own = voice if engine is engines[0] else replace(voice, speaker=None)
                self._voices.setdefault(voice.id, (own, engine))
        self._all = tuple(voice for voice, _ in self._voices.values())

    def voices(self) -> Sequence[Voice]:
        return self._all

    @property
    def problem(self) -> WireError | None:
        """The problem of the first engine that has one. Engines without a problem speak all the
        same."""
        problems = (engine.problem for engine in self._engines)
        return next((problem for problem in problems if problem is not None), None)

    async def wait_lost(self) -> None:
        waiting = [asyncio.ensure_future(engine.wait_lost()) for engine in self._engines]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def mixture(self, name: str) -> Voice | None:
        found = (engine.mixture(name) for engine in self._engines)
        return next((voice for voice in found if voice is not None), None)

    def of(self, voice: Voice) -> Engine:
        if voice.id in self._voices:
            return self._voices[voice.id][1]
        for engine in self._engines:
            if engine.mixture(voice.id) is not None:
                return engine
        return next(engine for engine in self._engines if engine.takes_prompts)

    def can_speak_early(self, voice: Voice) -> bool:
        return self._speak_while_loading and self.of(voice) is not self._engines[0]

    async def load(self, on_progress: Callable[[str], None]) -> None:
        first, *others = self._engines
        try:
            for engine in [*others, first] if self._speak_while_loading else self._engines:
                await engine.load(on_progress)
                self._loaded[engine].set()
        finally:  # who waits for one that failed must not wait for ever
            for loaded in self._loaded.values():
                loaded.set()

    def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        engine = self.of(utterance.voice)
        if self._loaded[engine].is_set():
            return engine.speak(utterance)
        return self._speak_when_loaded(engine, utterance)

    async def _speak_when_loaded(
        self, engine: Engine, utterance: Utterance
    ) -> AsyncGenerator[Sound, None]:
        await self._loaded[engine].wait()
        async with aclosing(engine.speak(utterance)) as sounds:
            async for sound in sounds:
                yield sound

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
