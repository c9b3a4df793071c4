"""The basic endpoint: connects one socket with the protocol and the engine.

A connection has two tasks. One reads, so that it notices a cancel or a lost client at once; the
other answers turn after turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from starlette.websockets import WebSocketDisconnect

from tts_provider.errors import (
    EngineFailed,
    InvalidRequest,
    LimitReached,
    OverCapacity,
    WireError,
)
from tts_provider.keys.caller import current_caller
from tts_provider.server.connections.socket import Socket, Wire, wait_for
from tts_provider.server.connections.tasks import Tasks
from tts_provider.server.dialects import basic
from tts_provider.server.service.pieces import Piece, PieceEncoder
from tts_provider.server.service.service import SpeechService, unexpected_failure
from tts_provider.server.transport.websocket import fragments
from tts_provider.speech.dialogue import Dialogue
from tts_provider.speech.engine import SAMPLE_RATE, Utterance, Word, to_ms
from tts_provider.speech.pipeline import Segment

log = logging.getLogger(__name__)

ENDPOINT = "basic"


class SpeechSocket(Socket):
    def __init__(self, wire: Wire, service: SpeechService) -> None:
        super().__init__(wire, service)
        self._connection = basic.Connection(service.limits, service.defaults)
        self._tasks = Tasks()
        self._speaking: asyncio.Task[None] | None = None
        self._cancelled = False
        self._lost = False
        self._was_told_loading = False

    async def run(self) -> None:
        async with self._tasks:
            try:
                if self._service.is_loading:
                    await self._tell_loading()
                self._tasks.start(self._answer_turns())
                await self._read_messages()
            except WebSocketDisconnect:
                pass

    async def _read_messages(self) -> None:
        while (text := await self._receive()) is not None:
            try:
                cancel = self._connection.receive(text)
            except OverCapacity as problem:
                await self.refuse(problem)
                return
            except InvalidRequest as problem:
                await self.close(1009, problem.message)
                return
            if cancel is not None:
                await self._cancel(cancel)
            self.wake()

    async def _cancel(self, cancel: basic.CancelRequest) -> None:
        messages, stop_active = self._connection.cancel(cancel)
        if stop_active and self._speaking is not None:
            self._cancelled = True
            self._speaking.cancel()
        for message in messages:
            await self._send_together([message])

    async def _answer_turns(self) -> None:
        """Answer turn after turn; returns when the connection is over."""
        idle_s = self._service.limits.idle_timeout_s
        try:
            while not self._lost:
                turn = self._connection.next_turn()
                if turn is not None:
                    await self._answer(turn)
                elif (refusal := self._service.admission.refusal) is not None:
                    # A client that waits for a model that cannot be loaded is told why; otherwise
                    # the close code says it.
                    if isinstance(refusal, EngineFailed):
                        await self._send_error(refusal, None)
                    await self.close(refusal.close_code, refusal.message)
                    return
                elif not await wait_for(self._woken, idle_s):
                    await self.close(1000, f"nothing was asked for {idle_s:g} s")
                    return
        except WebSocketDisconnect:
            pass

    async def _answer(self, turn: basic.Turn) -> None:
        if isinstance(turn, basic.Refusal):
            self._connection.finish_turn()
            await self._send_error(turn.error, turn.request_id)
            return
        if isinstance(turn, basic.InfoRequest):
            self._connection.finish_turn()
            await self._send_together([basic.info(await self._service.info(), turn.request_id)])
            return
        # A task of its own: a cancel ends this turn, not the connection.
        self._cancelled = False
        self._speaking = self._tasks.start(self._speak(turn))
        await asyncio.wait({self._speaking})
        if self._speaking.cancelled() and self._cancelled:
            self._connection.finish_turn()
            await self._send_together([basic.cancelled(turn.request_id)])
            return
        await self._speaking

    async def _speak(self, request: basic.SpeechRequest) -> None:
        try:
            await self._speak_or_say_why(request)
        except WebSocketDisconnect:
            self._lost = True  # the reading task ends the connection

    async def _speak_or_say_why(self, request: basic.SpeechRequest) -> None:
        try:
            self._service.allowances.take_request(current_caller())
            await self._service.wait_for_voices()
            asked = request.asked(self._service.find_voice)
            if not all(map(self._service.is_loaded_for, Dialogue.of(asked).voices)):
                await self._tell_loading()
            if request.stream:
                await self._stream(request, asked)
            else:
                await self._reply(request, asked)
        except WireError as problem:
            self._connection.finish_turn()
            await self._send_error(problem, request.request_id)
            is_full = isinstance(problem, OverCapacity) and not isinstance(problem, LimitReached)
            if is_full or problem is self._service.admission.refusal:
                await self.close(problem.close_code, problem.message)
        except WebSocketDisconnect:
            raise
        except Exception:  # a fault of the server ends the request, never the connection
            log.exception("a request failed unexpectedly")
            self._connection.finish_turn()
            await self._send_error(unexpected_failure(), request.request_id)

    async def _tell_loading(self) -> None:
        """At most once for each connection: clients do not expect a second one."""
        if not self._was_told_loading:
            self._was_told_loading = True
            await self._send_together([basic.loading()])

    def _make(
        self, request: basic.SpeechRequest, asked: Utterance | Dialogue, encoder: PieceEncoder
    ) -> AsyncGenerator[Piece | Segment, None]:
        return self._service.speak(
            asked, encoder, ENDPOINT, context=request.context, reading=request.reading
        )

    async def _reply(self, request: basic.SpeechRequest, asked: Utterance | Dialogue) -> None:
        """A whole reply: one success, then the whole file in one message."""
        audio, end, words = bytearray(), 0, list[Word]()
        encoder = PieceEncoder(request.output)
        async with contextlib.aclosing(self._make(request, asked, encoder)) as speech:
            async for item in speech:
                if isinstance(item, Segment):
                    words += item.words
                else:
                    audio += item.data
                    end = item.end
        for position, data in encoder.patches:
            audio[position : position + len(data)] = data
        if (signer := self._service.signer) is not None:
            audio = bytearray(await asyncio.to_thread(signer.sign, audio, request.output.format))
        self._connection.finish_turn()
        success = basic.success(request, len(audio), to_ms(end), words)
        async with self._sending:
            await self._send({"type": "websocket.send", "text": success})
            for fragment in fragments(audio):
                share = len(fragment["bytes"]) / max(len(audio), 1)
                await self._send(fragment, share * end / SAMPLE_RATE)

    async def _stream(self, request: basic.SpeechRequest, asked: Utterance | Dialogue) -> None:
        sent_bytes, end = 0, 0
        speech = self._make(request, asked, PieceEncoder(request.output))
        async with contextlib.aclosing(speech):
            async for item in speech:
                if isinstance(item, Segment):
                    if item.words:
                        await self._send_together([basic.words(item.words, request)])
                    continue
                if not sent_bytes:
                    await self._send_together([basic.streaming(request)])
                await self._send_together([item.data], item.audio_s)
                sent_bytes, end = sent_bytes + len(item.data), item.end
        self._connection.finish_turn()
        await self._send_together([basic.success(request, sent_bytes, to_ms(end))])

    def _describe(self, problem: WireError) -> list[str]:
        return [basic.error(problem)]

    async def _send_error(self, problem: WireError, request_id: str | None) -> None:
        self._service.count_error(problem)
        await self._send_together([basic.error(problem, request_id)])
