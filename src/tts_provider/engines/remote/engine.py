"""An engine that is elsewhere: on one replica of several, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from tts_provider.engines.kokoro.voices import find_mixture
from tts_provider.engines.remote.client import SILENCE_S
from tts_provider.engines.remote.frames import Bounds, SamplesFrame, WordsFrame
from tts_provider.engines.remote.hedging.question import Question
from tts_provider.engines.remote.messages import (
    VOICE_HEADER,
    Description,
    ListenRequest,
    SpeakRequest,
)
from tts_provider.engines.remote.replicas import HEDGE_PERCENT, Replicas
from tts_provider.errors import EngineLost, StartupError, WireError
from tts_provider.speech.engine import (
    Engine,
    Samples,
    Sound,
    Spoken,
    Utterance,
    Voice,
    Word,
)

_ASK_AGAIN_S = 1.0


class RemoteEngine(Engine):
    """It is what the replicas say they are; until one does, it has no voice."""

    name = "remote"
    model = "unknown"
    device = "unknown"
    precision = "unknown"

    def __init__(
        self,
        urls: Sequence[str],
        key: str | None = None,
        *,
        silence_s: float = SILENCE_S,
        hedge_percent: float = HEDGE_PERCENT,
    ) -> None:
        self.replicas = Replicas(
            urls, key, self._described, silence_s=silence_s, hedge_percent=hedge_percent
        )
        self.collectors = self.replicas.counts.collectors
        self._voices: Sequence[Voice] = ()
        self._is_loaded = False

    def voices(self) -> Sequence[Voice]:
        return self._voices

    def mixture(self, name: str) -> Voice | None:
        return find_mixture(name, self._voices)

    @property
    def problem(self) -> WireError | None:
        if self._is_loaded and not self.replicas.addresses.are_up:
            return self.replicas.nobody()
        return None

    async def load(self, on_progress: Callable[[str], None]) -> None:
        """Ask each second until a replica answers. Raises `StartupError` where waiting is in
        vain."""
        said = None
        while True:
            await self.replicas.probe()
            if self.replicas.addresses.are_up:
                break
            problems = self.replicas.addresses.problems()
            if self.replicas.addresses.are_refused:
                raise StartupError(f"there is no engine to speak with: {problems}")
            if problems != said:
                on_progress(f"waiting for a replica: {problems}")
                said = problems
            await asyncio.sleep(_ASK_AGAIN_S)
        self._is_loaded = True
        self.replicas.watch()

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        voice = utterance.voice
        question = Question(
            "/speak",
            lambda known: SpeakRequest.of(utterance, known).encode(),
            Bounds.of_speech(utterance),
            # Enrolled voices go where their prompt is.
            headers={VOICE_HEADER: voice.id} if voice.speaker is None else {},
            waits=utterance.begun,
            is_hedged=not utterance.is_background,
            source=voice.source,
            has_seed=utterance.manner.seed is not None,
            ahead_s=utterance.ahead_s,
        )
        frames = self.replicas.ask(question)
        words = list[Word]()
        async with aclosing(frames):
            async for frame in frames:
                match frame:
                    case WordsFrame(times):
                        words += times
                    case SamplesFrame(samples):
                        yield Sound(samples, tuple(words))
                        words = []
                    case Spoken():
                        utterance.history.add(replace(frame, voice=utterance.voice.id))

    async def listen(self, text: str, speaker: int, samples: Samples) -> Spoken:
        if not self.takes_prompts:
            return await super().listen(text, speaker, samples)
        # Up to a minute of audio in base64 is not for the event loop.
        body = await asyncio.to_thread(lambda: ListenRequest.of(text, speaker, samples).encode())
        bounds = Bounds.of_listening(text, samples)
        frames = self.replicas.ask(Question("/listen", lambda _: body, bounds, waits=True))
        async with aclosing(frames):
            async for frame in frames:
                if isinstance(frame, Spoken):
                    return frame
        raise EngineLost("the engine did not say what it heard; ask again")

    async def close(self) -> None:
        await self.replicas.close()

    def _described(self, facts: Description) -> None:
        self.name, self.model = facts.engine, facts.model
        self.device, self.precision = facts.device, facts.precision
        self.speeds, self.takes_prompts = facts.speeds, facts.takes_prompts
        self.takes_acts = facts.takes_acts
        self._voices = facts.voices
