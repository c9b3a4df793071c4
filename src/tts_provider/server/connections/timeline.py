"""One context's timeline: speaks its text in order, without gaps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import replace
from typing import Protocol

from starlette.websockets import WebSocketDisconnect

from tts_provider.errors import InvalidRequest, NoSpeech, WireError
from tts_provider.server.connections.socket import wait_for
from tts_provider.server.dialects.contexts import Context, Item
from tts_provider.server.dialects.dialect import (
    Audio,
    Done,
    End,
    EngineLoading,
    Event,
    Flush,
    Flushed,
    Listen,
    Problem,
    SegmentDone,
    Words,
)
from tts_provider.server.service.pieces import Piece, PieceEncoder
from tts_provider.server.service.service import Said, SpeechService, unexpected_failure
from tts_provider.speech.engine import History, Utterance, Voice, to_ms
from tts_provider.speech.pipeline import Progress, Segment, nothing_to_speak
from tts_provider.speech.reading import Passage
from tts_provider.speech.transcript import Transcript
from tts_provider.waiting.pace import Pace

log = logging.getLogger(__name__)

_PATIENCE = 4  # pauses
_SOON_S = 2.0  # time to a model's first audio, with a margin


class Listener(Protocol):
    """The connection that a timeline speaks to."""

    endpoint: str

    async def send(self, event: Event) -> None: ...
    def wake(self) -> None: ...
    def finish(self, context_id: str) -> None: ...


class Timeline:
    """The timeline of one context. `run` is its task, which ends with `Done`; if it is cancelled,
    it sends nothing."""

    def __init__(
        self,
        context: Context,
        service: SpeechService,
        listener: Listener,
        history: History | None = None,
    ) -> None:
        """`history` is that of a conversation that this timeline continues."""
        self._context, self._id = context, context.id
        self._settings = settings = context.opening.settings
        self._service = service
        self._listener = listener
        self._todo: deque[Item] = deque()
        self._changed = asyncio.Event()
        history = history or History()
        self._utterance = Utterance("", settings.voice, settings.manner, history)
        longest = service.limits.max_text_characters
        self.transcript = Transcript(context.written, history, longest)
        self.meter = service.new_meter(listener.endpoint, settings.voice)
        self._encoder = PieceEncoder(settings.output, is_cut=True)
        self._progress = Progress(transcript=self.transcript)
        self._max_ahead_s = settings.max_ahead_s or service.limits.max_ahead_s
        self._sent_ms = 0
        self._pace = Pace(asyncio.get_running_loop().time)
        self._working = False

    @property
    def is_busy(self) -> bool:
        """Whether there is something to speak."""
        return self._working or bool(self._todo)

    @property
    def has_begun(self) -> bool:
        """Something was spoken."""
        return self._progress.position > 0

    @property
    def is_within_sentence(self) -> bool:
        """Whether something was spoken and a sentence after it is not complete."""
        return self.has_begun and self._context.has_text

    @property
    def is_heard(self) -> bool:
        """Whether it is busy, or its listener still hears audio that was sent."""
        return self.is_busy or self._pace.ahead_s > 0

    @property
    def audio_ms(self) -> int:
        """Audio that was sent, in milliseconds."""
        return self._sent_ms

    def add(self, *items: Item) -> None:
        """Add actions, or notify the timeline that text has arrived."""
        if any(isinstance(item, Passage) for item in items):
            self.meter.begin()
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
            with contextlib.closing(self._encoder), self.meter.measure():
                await self._work()
        except WireError as problem:
            return problem
        except WebSocketDisconnect:
            raise
        except Exception:  # a fault of the server ends the context, never the connection
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
                    await self._flush()
                    await self._listener.send(Flushed(self._id, flush_id))
                case Listen(_, said):
                    await self._listen(said)
            self._working = False
            self._listener.wake()
        await self._flush()
        if not self._progress.is_audible:
            raise nothing_to_speak()

    async def _next(self) -> Item:
        """Return what to do next. If the writer pauses and the listener has little left to hear,
        that is the clause so far."""
        pause_s = self._settings.clause_pause_s or self._service.limits.clause_pause_s
        while not self._todo:
            if not await wait_for(self._changed, max(pause_s, self._pace.ahead_s - pause_s)):
                self._todo += self._context.take_clause()
                # A full stop that may be part of a number or an address ends the sentence after a
                # while.
                if not self._todo and not await wait_for(self._changed, _PATIENCE * pause_s):
                    self._todo += self._context.take_clause(is_patient=True)
                    if not self._todo:
                        await wait_for(self._changed, None)
        item = self._todo.popleft()
        self._context.taken(item)
        return item

    async def _speak(self, passage: Passage) -> None:
        # A context whose listener has much left to hear waits here, where it holds no place that
        # others could use. A context that may only be a little ahead begins at once, because it
        # would have a gap otherwise.
        await self._pace.wait(max(self._max_ahead_s / 2, min(self._max_ahead_s, _SOON_S)))
        self.meter.begin()  # a clause was not passed to `add`
        self.meter.characters += len(passage.text)
        self._context.spoken(passage)
        await self._tell_loading(passage.voice or self._settings.voice)
        usual_s = self._service.limits.max_ahead_s
        allowed_s = max(self._max_ahead_s, usual_s) - max(self._pace.ahead_s, 0.0)
        utterance = replace(self._utterance, ahead_s=allowed_s)
        speech = self._service.speak_passage(
            utterance, self._encoder, passage, self._progress, self.meter
        )
        async with contextlib.aclosing(speech):
            async for item in speech:
                if isinstance(item, Piece):
                    await self._send(item)
                else:
                    await self._tell(item)

    async def _tell_loading(self, voice: Voice) -> None:
        """If the next text has to wait until the model is loaded again, say so."""
        if not self._service.is_loaded_for(voice):
            await self._listener.send(EngineLoading())

    async def _listen(self, said: Said) -> None:
        try:
            await self._tell_loading(self._settings.voice)
            early = self._service.is_ready_for(self._settings.voice)
            async with self._service.admission.admit(begun=self.has_begun, early=early):
                history = self._utterance.history
                await self._service.listen(said, self._settings.voice, history)
        except (InvalidRequest, NoSpeech) as problem:  # the context can go on without the recording
            await self._listener.send(Problem(problem, self._id))
        finally:
            self._context.heard(said)

    async def _tell(self, segment: Segment) -> None:
        """Send what was spoken, after its audio."""
        if segment.words:
            await self._listener.send(Words(self._id, segment.words))
        if segment.end > segment.start and segment.text:
            place = to_ms(segment.start), to_ms(segment.end)
            done = SegmentDone(self._id, segment.text, *place, segment.voice)
            await self._listener.send(done)

    async def _flush(self) -> None:
        for piece in await self._encoder.flush():
            await self._send(piece)

    async def _send(self, piece: Piece) -> None:
        await self._pace.wait(self._max_ahead_s - piece.audio_s)
        self._pace.send(piece.audio_s)
        self._sent_ms = piece.end_ms
        await self._listener.send(
            Audio(self._id, self._settings, piece.start_ms, piece.end_ms, piece.data)
        )
