"""What one request or context costs: counted while it is spoken, reported when it is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tts_provider.errors import WireError
from tts_provider.keys.caller import Caller
from tts_provider.keys.counts import Counts, Place, Usage
from tts_provider.server.service.metrics import Metrics
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Voice, to_ms
from tts_provider.speech.reading import Passage

log = logging.getLogger(__name__)

_Item = TypeVar("_Item", bound=pipeline.AudioChunk | pipeline.Segment)


class Meter:
    """What one request or context costs. It is reported to the metrics and the log when the request
    is over, and added to its key's usage as it grows."""

    def __init__(
        self,
        metrics: Metrics,
        endpoint: str,
        *voices: Voice,
        caller: Caller,
        counts: Counts,
        place_of: Callable[[Voice], Place],
        is_background: bool = False,
    ) -> None:
        """`place_of` says where the speech of a voice is counted. The first voice speaks unless
        another is named. In the background nobody waits, so times mean nothing there, and the text
        is part of a request that was counted already."""
        self._is_background = is_background
        self._metrics = metrics
        self._endpoint = endpoint
        self._caller, self._counts, self._find_place = caller, counts, place_of
        self._voices = dict.fromkeys(voice.id for voice in voices)
        self._places: dict[str, Place] = {}
        self._first = self._speaking = self.place_of(voices[0])
        self._taken: list[tuple[Place, int]] = []
        self._arrived: float | None = None
        self._engine_s = 0.0
        self._first_audio_s: float | None = None
        self._samples = 0
        self.characters = 0

    def place_of(self, voice: Voice) -> Place:
        """Where the speech of this voice is counted."""
        if voice.id not in self._places:
            self._places[voice.id] = self._find_place(voice)
        return self._places[voice.id]

    def take(self, characters: int, voice: Voice) -> None:
        """Count characters that are to be spoken in this voice."""
        place = self.place_of(voice)
        self.characters += characters
        self._counts.add(place, Usage(characters=characters))
        self.took(characters, place)

    def took(self, characters: int, place: Place) -> None:
        """Record characters that were counted already, and give them back if nothing of them is
        heard."""
        self._taken.append((place, characters))

    def _give_back(self) -> None:
        for place, characters in self._taken:
            self._counts.add(place, Usage(characters=-characters))
        self._taken.clear()

    async def next(self, items: AsyncGenerator[_Item, None]) -> _Item | None:
        """Return the next item, or None at the end, and count the time that it took."""
        asked = time.monotonic()
        item = await anext(items, None)
        self._engine_s += time.monotonic() - asked
        if isinstance(item, pipeline.AudioChunk):
            self._count(len(item.samples))
        return item

    def hear(self, voice: Voice) -> None:
        """Record that this voice speaks now."""
        self._voices[voice.id] = None
        self._speaking = self.place_of(voice)

    def watch(self, passages: Iterable[Passage], voice: Voice) -> Iterator[Passage]:
        """Yield the passages of a text in `voice`, and record who speaks each of them."""
        for passage in passages:
            self.hear(passage.voice or voice)
            yield passage

    def begin(self) -> None:
        """There is something to speak: the time to first audio runs from now on."""
        if self._arrived is None:
            self._arrived = time.monotonic()

    def _count(self, samples: int) -> None:
        if self._first_audio_s is None:
            assert self._arrived is not None, "begin() comes first"
            self._first_audio_s = time.monotonic() - self._arrived
            if not self._is_background:
                self._metrics.first_audio_s.observe(self._first_audio_s)
        self._samples += samples
        self._counts.add(self._speaking, Usage(audio_samples=samples))
        self._metrics.audio_s.inc(samples / SAMPLE_RATE)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Wraps the whole request or context: how the block ends is its outcome."""
        outcome = "failed"
        if not self._is_background:
            self._counts.add(self._first, Usage(requests=1))
        try:
            yield
            outcome = "spoken"
            if self._samples and not self._is_background:
                ratio = self._engine_s * SAMPLE_RATE / self._samples
                self._metrics.real_time_factor.observe(ratio)
        except WireError as problem:
            outcome = problem.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            if outcome not in ("spoken", "cancelled") and not self._is_background:
                self._counts.add(self._first, Usage(failures=1))
                if not self._samples:
                    self._give_back()
            self._metrics.requests.labels(self._endpoint, outcome).inc()
            name, audio_s = self._caller.name, self._samples / SAMPLE_RATE
            self._metrics.count_key(name, outcome, self.characters, audio_s)
            log.log(
                logging.DEBUG if self._is_background else logging.INFO,
                "request",
                extra={
                    **({} if name is None else {"key": name}),
                    "endpoint": self._endpoint,
                    "outcome": outcome,
                    "voice": ", ".join(self._voices),
                    "characters": self.characters,
                    "first_audio_ms": _ms(self._first_audio_s),
                    "audio_ms": to_ms(self._samples),
                    "engine_ms": _ms(self._engine_s),
                },
            )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
