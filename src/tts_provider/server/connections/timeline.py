"""One context's timeline: what is to be spoken, in order, without gaps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.websockets import WebSocketDisconnect

from tts_provider.audio.encode.encode import Output, StreamEncoder
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.errors import InvalidRequest, NoSpeech, WireError
from tts_provider.server.connections.pace import Pace
from tts_provider.server.connections.socket import wait_for
from tts_provider.server.dialects.contexts import Context, Item
from tts_provider.server.dialects.dialect import (
    Audio,
    Done,
    End,
    Event,
    Flush,
    Flushed,
    Listen,
    Problem,
    SegmentDone,
    Words,
)
from tts_provider.server.service.service import Meter, Said, SpeechService, unexpected_failure
from tts_provider.speech.engine import SAMPLE_RATE, Utterance
from tts_provider.speech.pipeline import AudioChunk, Segment, nothing_to_speak, shorten_lead
from tts_provider.speech.reading import Passage

log = logging.getLogger(__name__)

_PATIENCE = 4  # pauses


class Listener(Protocol):
    """The connection that a timeline speaks to."""

    endpoint: str

    async def send(self, event: Event) -> None: ...
    def wake(self) -> None: ...
    def finish(self, context_id: str) -> None: ...


class Timeline:
    """`run` is its task, which ends with `Done` unless it is cancelled: then without a word."""

    def __init__(self, context: Context, service: SpeechService, listener: Listener) -> None:
        self._context, self._id = context, context.id
        self._settings = settings = context.opening.settings
        self._service = service
        self._listener = listener
        self._todo: deque[Item] = deque()
        self._changed = asyncio.Event()
        self._utterance = Utterance(text="", voice=settings.voice, manner=settings.manner)
        self._meter = Meter(service.metrics, listener.endpoint, settings.voice.id)
        self._audio = _Encoding(settings.output)
        self._position = 0  # of the timeline's end, in samples
        self._audible = False
        self._pace = Pace(asyncio.get_running_loop().time)
        self._working = False

    @property
    def is_busy(self) -> bool:
        """There is something to speak."""
        return self._working or bool(self._todo)

    @property
    def has_begun(self) -> bool:
        """Something was spoken."""
        return self._position > 0

    @property
    def is_within_sentence(self) -> bool:
        """Something was spoken, and a sentence behind it has begun that is not complete."""
        return self.has_begun and self._context.has_text

    @property
    def is_heard(self) -> bool:
        """It is busy, or its listener still hears what was sent."""
        return self.is_busy or self._pace.ahead_s > 0

    @property
    def audio_ms(self) -> int:
        """Audio sent."""
        return self._audio.sent_ms

    def add(self, *items: Item) -> None:
        """More to do, or the news that text has arrived."""
        if any(isinstance(item, Passage) for item in items):
            self._meter.begin()
        self._todo += items
        self._changed.set()

    async def run(self) -> None:
        try:
            problem = await self._work_or_say_why()
            self._listener.finish(self._id)
            if problem is not None:
                await self._listener.send(Problem(problem, self._id, is_over=True))
            await self._listener.send(Done(self._id, self.audio_ms))
        except WebSocketDisconnect:
            pass  # whoever reads ends the connection

    async def _work_or_say_why(self) -> WireError | None:
        try:
            with contextlib.closing(self._audio), self._meter.measure():
                await self._work()
        except WireError as problem:
            return problem
        except WebSocketDisconnect:
            raise
        except Exception:  # a fault of ours ends the context, never the connection
            log.exception("a timeline failed unexpectedly")
            return unexpected_failure()
        return None

    async def _work(self) -> None:
        while not isinstance(item := await self._next(), End):
            self._working = True
            match item:
                case Passage():
                    await self._speak(item)
                case Flush(_, flush_id):
                    await self._send(await self._audio.flush(self._position))
                    await self._listener.send(Flushed(self._id, flush_id))
                case Listen(_, said):
                    await self._listen(said)
            self._working = False
            self._listener.wake()
        await self._send(await self._audio.flush(self._position))
        if not self._audible:
            raise nothing_to_speak()

    async def _next(self) -> Item:
        """What is to be done next. Where the writer pauses and the listener has little left to
        hear, that is the clause which is there."""
        pause_s = self._settings.clause_pause_s or self._service.limits.clause_pause_s
        while not self._todo:
            if not await wait_for(self._changed, max(pause_s, self._pace.ahead_s - pause_s)):
                self._todo += self._context.take_clause()
                # A full stop that may stand in a number or an address is an end after a while.
                if not self._todo and not await wait_for(self._changed, _PATIENCE * pause_s):
                    self._todo += self._context.take_clause(is_patient=True)
                    if not self._todo:
                        await wait_for(self._changed, None)
        item = self._todo.popleft()
        self._context.taken(item)
        return item

    async def _speak(self, passage: Passage) -> None:
        # Who has much to hear waits here, where it holds no place that others could speak in.
        await self._pace.wait(self._service.limits.max_ahead_s / 2)
        self._meter.begin()  # where it is a clause, nobody added it
        self._meter.characters += len(passage.text)
        self._context.spoken(passage)
        if not (passage.spoken or self._audible):
            passage = shorten_lead(passage, self._position)
        allowed_s = self._service.limits.max_ahead_s - max(self._pace.ahead_s, 0.0)
        utterance = replace(self._utterance, ahead_s=allowed_s)
        items = self._service.speak_passage(utterance, passage, self._position, self._meter)
        async with contextlib.aclosing(items):
            async for item in items:
                if isinstance(item, AudioChunk):
                    self._audible = self._audible or bool(item.samples.any())
                    await self._send(await self._audio.push(item))
                else:
                    await self._end_segment(item)

    async def _listen(self, said: Said) -> None:
        try:
            early = self._service.is_ready_for(self._settings.voice)
            async with self._service.admission.admit(begun=self.has_begun, early=early):
                self._utterance.history.add(await self._service.listen(said, self._settings.voice))
        except (InvalidRequest, NoSpeech) as problem:  # the context can go on without it
            await self._listener.send(Problem(problem, self._id))
        finally:
            self._context.heard(said)

    async def _end_segment(self, segment: Segment) -> None:
        await self._send(await self._audio.end_segment(segment))
        self._position = segment.end
        if segment.words:
            await self._listener.send(Words(self._id, segment.words, segment.is_estimated))
        if segment.end > segment.start and segment.text:
            place = _ms(segment.start), _ms(segment.end)
            await self._listener.send(SegmentDone(self._id, segment.text, *place))

    async def _send(self, piece: _Piece | None) -> None:
        if piece is None:
            return
        audio_s = (piece.end_ms - piece.start_ms) / 1000
        await self._pace.wait(self._service.limits.max_ahead_s - audio_s)
        self._pace.send(audio_s)
        self._audio.sent_ms = piece.end_ms
        await self._listener.send(
            Audio(self._id, self._settings, piece.start_ms, piece.end_ms, piece.data)
        )


@dataclass(frozen=True)
class _Piece:
    """Bytes, and the stretch of the timeline that they are counted as."""

    data: bytes
    start_ms: int
    end_ms: int


class _Encoding:
    """The timeline as bytes. Every segment is encoded by itself, so that its end does not wait for
    the next one: PCM and G.711 join without a seam, and Ogg streams one after another are one file
    (RFC 3533 section 4, "chaining"). MP3 would have 50 ms of silence at each join, so its encoder
    goes on until a flush."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._encoder: StreamEncoder | None = None
        self._segment_start = 0  # in samples
        self._data_bytes = 0  # of this segment
        self._made_ms = 0
        self.sent_ms = 0

    async def push(self, chunk: AudioChunk) -> _Piece | None:
        if self._encoder is None:
            self._encoder = StreamEncoder(self._output, SAMPLE_RATE, is_stream=True)
            self._segment_start, self._data_bytes = chunk.start, 0
            data = await self._encoder.start() + await self._encoder.push(chunk.samples)
        else:
            data = await self._encoder.push(chunk.samples)
        self._data_bytes += len(data)
        sample_bytes = AUDIO_FORMATS[self._output.format].sample_bytes
        if sample_bytes is None:
            return self._piece(data, _ms(chunk.end))
        # A resampler holds the last few samples back: count what is there.
        made = self._data_bytes // sample_bytes * SAMPLE_RATE // self._output.sample_rate
        return self._piece(data, _ms(self._segment_start + made))

    async def end_segment(self, segment: Segment) -> _Piece | None:
        """What the encoder still holds of it."""
        return None if self._output.format == "mp3" else await self.flush(segment.end)

    async def flush(self, end: int) -> _Piece | None:
        """What the encoder still holds, where the timeline is `end` samples long."""
        if self._encoder is None:
            return None
        encoder, self._encoder = self._encoder, None
        with contextlib.closing(encoder):
            return self._piece(await encoder.finish(), _ms(end))

    def _piece(self, data: bytes, end_ms: int) -> _Piece | None:
        if not data:
            return None
        start_ms, self._made_ms = self._made_ms, end_ms
        return _Piece(data, start_ms, end_ms)

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE
