"""What every endpoint shares: the engine behind admission, counted and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from tts_provider import __version__
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.admission import Admission
from tts_provider.server.metrics import Metrics
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, AudioChunk, Engine, Utterance, Voice

log = logging.getLogger(__name__)


class SpeechService:
    """One engine and those who may use it."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.admission = Admission(limits)
        self.metrics = Metrics()
        self.metrics.watch_admission(lambda: self.admission.active, lambda: self.admission.queued)
        self.metrics.ready.set_function(lambda: float(self.admission.is_open))

    def find_voice(self, voice: str | None, speaker: int | None) -> Voice:
        """The voice of that id, else that speaker's, else speaker 0's.

        Raises `InvalidRequest` listing the voices there are.
        """
        voices = self.engine.voices()
        if voice is not None:
            for candidate in voices:
                if candidate.id == voice:
                    return candidate
            known = ", ".join(candidate.id for candidate in voices)
            raise InvalidRequest(
                f"there is no voice {voice[:64]!r}; this server has {known}",
                code="unknown_voice",
                param="voice",
            )
        for candidate in voices:
            if candidate.speaker == (speaker or 0):
                return candidate
        known = ", ".join(f"{v.speaker} ({v.id})" for v in voices if v.speaker is not None)
        raise InvalidRequest(
            f"there is no speaker {speaker}; this server has {known}",
            code="unknown_voice",
            param="speaker",
        )

    async def speak(self, utterance: Utterance, endpoint: str) -> AsyncGenerator[AudioChunk, None]:
        """Wait for a stream, then yield the utterance's audio. Raises `WireError`."""
        arrived = time.monotonic()
        engine_s, first_audio_s, samples, outcome = 0.0, None, 0, "failed"
        try:
            async with (
                self.admission.admit(),
                aclosing(pipeline.speak(self.engine, utterance)) as chunks,
            ):
                while True:
                    asked = time.monotonic()
                    chunk = await anext(chunks, None)
                    engine_s += time.monotonic() - asked
                    if chunk is None:
                        break
                    if first_audio_s is None:
                        first_audio_s = time.monotonic() - arrived
                        self.metrics.first_audio_s.observe(first_audio_s)
                    samples += len(chunk.samples)
                    self.metrics.audio_s.inc(len(chunk.samples) / SAMPLE_RATE)
                    yield chunk
            outcome = "spoken"
            self.metrics.real_time_factor.observe(engine_s * SAMPLE_RATE / samples)
        except WireError as problem:
            outcome = problem.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            self.metrics.requests.labels(endpoint, outcome).inc()
            log.info(
                "request",
                extra={
                    "endpoint": endpoint,
                    "outcome": outcome,
                    "voice": utterance.voice.id,
                    "characters": len(utterance.text),
                    "first_audio_ms": _ms(first_audio_s),
                    "audio_ms": samples * 1000 // SAMPLE_RATE,
                    "engine_ms": _ms(engine_s),
                },
            )

    def count_error(self, problem: WireError) -> None:
        self.metrics.errors.labels(problem.code).inc()

    def info(self) -> dict[str, Any]:
        """What there is to know about this server, older clients' names included."""
        engine, voices = self.engine, self.engine.voices()
        return {
            "engine": engine.name,
            "model": engine.model,
            "device": engine.device,
            "precision": engine.precision,
            "sample_rate": engine.sample_rate,
            "voices": [voice_facts(voice) for voice in voices],
            "limits": {name: getattr(self.limits, name) for name in Limits.model_fields},
            "version": __version__,
            "queue": {"active": self.admission.active, "queued": self.admission.queued},
            "server_version": __version__,
            "current_model": {
                "name": engine.model,
                "ready": self.admission.is_open,
                "sample_rate": engine.sample_rate,
                "speakers": {v.speaker: v.name for v in voices if v.speaker is not None},
            },
            "available_models": [engine.model],
            "queue_size": self.admission.queued,
            "model_loaded": self.admission.is_open,
        }


def voice_facts(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.name,
        "gender": voice.gender,
        "source": voice.source,
        "speaker": voice.speaker,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
