"""The base of engines around another engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from tts_provider.errors import WireError
from tts_provider.speech.engine import (
    Engine,
    Residency,
    Samples,
    Sound,
    Spoken,
    Utterance,
    Voice,
)


class WrapperEngine(Engine):
    """Passes everything on to the engine within. `_engine` may be replaced by another one of the
    same kind."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.model = engine.name, engine.model
        self.device, self.precision = engine.device, engine.precision
        self.speeds, self.takes_prompts = engine.speeds, engine.takes_prompts
        self.letters_per_s = engine.letters_per_s
        self.takes_acts, self.own_max_streams = engine.takes_acts, engine.own_max_streams
        self.repeats, self.collectors = engine.repeats, engine.collectors

    def voices(self) -> Sequence[Voice]:
        return self._engine.voices()

    @property
    def problem(self) -> WireError | None:
        return self._engine.problem

    @property
    def residency(self) -> Residency:
        return self._engine.residency

    async def wait_lost(self) -> None:
        await self._engine.wait_lost()

    def mixture(self, name: str) -> Voice | None:
        return self._engine.mixture(name)

    def of(self, voice: Voice) -> Engine:
        return self._engine.of(voice)

    def can_read(self, voice: Voice) -> bool:
        return self._engine.can_read(voice)

    def can_speak_early(self, voice: Voice) -> bool:
        return self._engine.can_speak_early(voice)

    async def load(self, on_progress: Callable[[str], None]) -> None:
        await self._engine.load(on_progress)

    def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        return self._engine.speak(utterance)

    async def listen(self, text: str, speaker: int, samples: Samples) -> Spoken:
        return await self._engine.listen(text, speaker, samples)

    async def close(self) -> None:
        await self._engine.close()
