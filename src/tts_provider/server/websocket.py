"""The seed's endpoint: pumps one socket through protocol and engine.

Two tasks a connection: one reads, so that a cancel or a vanished client is noticed at once; the
other answers turn after turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from tts_provider.audio.encode import create_encoder
from tts_provider.audio.pcm import BYTES_PER_SAMPLE, WAV_HEADER_BYTES, wav_header
from tts_provider.errors import EngineFailed, InvalidRequest, OverCapacity, UnsentAudio, WireError
from tts_provider.server import protocol
from tts_provider.server.auth import choose_subprotocol
from tts_provider.server.speech import SpeechService
from tts_provider.server.transport import fragments, protocol_of
from tts_provider.speech.engine import SAMPLE_RATE, Utterance

log = logging.getLogger(__name__)

ENDPOINT = "seed"


class Sockets:
    """The open connections of the seed's endpoint."""

    def __init__(self, service: SpeechService) -> None:
        self._service = service
        self._open: set[SpeechSocket] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def serve(self, websocket: WebSocket) -> None:
        socket = SpeechSocket(websocket, self._service)
        await websocket.accept(choose_subprotocol(websocket.scope["subprotocols"]))
        limit = self._service.limits.max_connections
        if len(self._open) >= limit:
            problem = OverCapacity(
                f"{len(self._open)} connections are open, the limit; try again later",
                retry_after_ms=1000,
            )
            await socket.refuse(problem)
            return
        self._open.add(socket)
        self._empty.clear()
        self._service.metrics.connections.inc()
        try:
            await socket.run()
        finally:
            self._open.remove(socket)
            self._service.metrics.connections.dec()
            if not self._open:
                self._empty.set()

    def wake(self) -> None:
        """Something about the server changed: connections without a turn look at it now."""
        for socket in self._open:
            socket.wake()

    async def wait_closed(self) -> None:
        """Until no connection is open."""
        await self._empty.wait()

    async def close_all(self, code: int, reason: str) -> None:
        """Close what is left, whatever it is doing."""
        await asyncio.gather(*(socket.close_now(code, reason) for socket in self._open))


class SpeechSocket:
    def __init__(self, websocket: WebSocket, service: SpeechService) -> None:
        self._websocket = websocket
        self._service = service
        self._connection = protocol.Connection(service.limits)
        self._woken = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None
        self._cancelled = False
        self._lost = False
        # Whoever sends holds it: a reply's two messages stay together and its fragments unbroken
        # when a cancel is acknowledged or an error told meanwhile.
        self._sending = asyncio.Lock()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Serve the accepted connection until it is closed."""
        answering: asyncio.Task[None] | None = None
        try:
            admission = self._service.admission
            if not admission.is_open and admission.refusal is None:
                await self._send_text(protocol.loading())
            answering = asyncio.create_task(self._answer_turns())
            await self._read_messages()
        except WebSocketDisconnect:
            pass
        finally:
            if answering is not None:
                await _stop(answering)

    async def _read_messages(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                problem = InvalidRequest(
                    "a binary message arrived where a JSON text message was expected",
                    code="binary_not_expected",
                )
                await self.refuse(problem, close_code=1003)
                return
            try:
                cancel = self._connection.receive(text)
            except OverCapacity as problem:
                await self.refuse(problem)
                return
            if cancel is not None:
                await self._cancel(cancel)
            self.wake()

    async def _cancel(self, cancel: protocol.CancelRequest) -> None:
        messages, stop_active = self._connection.cancel(cancel)
        if stop_active and self._speaking is not None:
            self._cancelled = True
            self._speaking.cancel()
        for message in messages:
            await self._send_text(message)

    async def _answer_turns(self) -> None:
        """Answer turn after turn; returns when the connection is over."""
        idle_s = self._service.limits.idle_timeout_s
        try:
            while not self._lost:
                turn = self._connection.next_turn()
                if turn is not None:
                    await self._answer(turn)
                elif (refusal := self._service.admission.refusal) is not None:
                    # Who waits for a model that will not come hears why; else the code says it.
                    if isinstance(refusal, EngineFailed):
                        await self._send_error(refusal, None)
                    await self.close(refusal.close_code, refusal.message)
                    return
                elif not await self._wait_woken(idle_s):
                    await self.close(1000, f"nothing was asked for {idle_s:g} s")
                    return
        except WebSocketDisconnect:
            pass

    async def _wait_woken(self, timeout_s: float) -> bool:
        """Whether something happened in that time. `asyncio.wait_for` would do the same, but
        before Python 3.12 it can swallow a cancellation."""
        in_time = True

        def give_up() -> None:
            nonlocal in_time
            in_time = False
            self._woken.set()

        self._woken.clear()
        timer = asyncio.get_running_loop().call_later(timeout_s, give_up)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        return in_time

    async def _answer(self, turn: protocol.Turn) -> None:
        if isinstance(turn, protocol.Refusal):
            self._connection.finish_turn()
            await self._send_error(turn.error, turn.request_id)
            return
        if isinstance(turn, protocol.InfoRequest):
            self._connection.finish_turn()
            await self._send_text(protocol.info(self._service.info(), turn.request_id))
            return
        # A task of its own: a cancel ends this turn, not the connection.
        self._cancelled = False
        self._speaking = asyncio.create_task(self._speak(turn))
        try:
            await asyncio.wait({self._speaking})
        finally:
            if not self._speaking.done():
                await _stop(self._speaking)
        if self._speaking.cancelled() and self._cancelled:
            self._connection.finish_turn()
            await self._send_text(protocol.cancelled(turn.request_id))
            return
        await self._speaking

    async def _speak(self, request: protocol.SpeechRequest) -> None:
        try:
            await self._speak_or_say_why(request)
        except WebSocketDisconnect:
            self._lost = True  # the reading task ends the connection

    async def _speak_or_say_why(self, request: protocol.SpeechRequest) -> None:
        try:
            utterance = Utterance(
                text=request.text,
                voice=self._service.find_voice(request.voice, request.speaker),
                temperature=request.temperature,
                top_k=request.top_k,
                seed=request.seed,
                max_audio_ms=request.max_audio_ms,
            )
            if request.stream:
                await self._stream(request, utterance)
            else:
                await self._reply(request, utterance)
        except WireError as problem:
            self._connection.finish_turn()
            await self._send_error(problem, request.request_id)
            if isinstance(problem, OverCapacity) or problem is self._service.admission.refusal:
                await self.close(problem.close_code, problem.message)
        except WebSocketDisconnect:
            raise
        except Exception:  # a fault of ours ends the request, never the connection
            log.exception("a request failed unexpectedly")
            self._connection.finish_turn()
            fault = EngineFailed(
                "the server failed while speaking; its log says why", code="internal_error"
            )
            await self._send_error(fault, request.request_id)

    async def _reply(self, request: protocol.SpeechRequest, utterance: Utterance) -> None:
        """The seed's reply: one success, then the whole file in one message."""
        encoder = create_encoder("pcm", SAMPLE_RATE, request.sample_rate)
        header_bytes = WAV_HEADER_BYTES if request.format == "wav" else 0
        audio, longest_s, end = bytearray(header_bytes), self._service.limits.max_reply_audio_s, 0
        async with contextlib.aclosing(self._service.speak(utterance, ENDPOINT)) as chunks:
            async for chunk in chunks:
                audio += encoder.push(chunk.samples)
                end = chunk.end
                if end > longest_s * SAMPLE_RATE:
                    raise InvalidRequest(
                        f"the reply is longer than {longest_s:g} s, the limit for one message; "
                        'send less text, or ask with "stream": true',
                        code="audio_too_long",
                        param="text",
                    )
        audio += encoder.finish()
        if header_bytes:
            audio[:header_bytes] = wav_header(request.sample_rate, len(audio) - header_bytes)
        self._connection.finish_turn()
        duration_ms = end * 1000 // SAMPLE_RATE
        success = protocol.success(request, len(audio), duration_ms)
        async with self._sending:
            await self._send({"type": "websocket.send", "text": success})
            for fragment in fragments(audio):
                await self._send(fragment, _seconds(fragment["bytes"], request.sample_rate))

    async def _stream(self, request: protocol.SpeechRequest, utterance: Utterance) -> None:
        encoder = create_encoder(request.format, SAMPLE_RATE, request.sample_rate)
        pending, sent_bytes, end = encoder.start(), 0, 0
        async with contextlib.aclosing(self._service.speak(utterance, ENDPOINT)) as chunks:
            async for chunk in chunks:
                if end == 0:
                    await self._send_text(protocol.streaming(request))
                end = chunk.end
                pending += encoder.push(chunk.samples)
                if pending:
                    await self._send_audio(pending, request.sample_rate)
                    sent_bytes, pending = sent_bytes + len(pending), b""
        pending += encoder.finish()
        self._connection.finish_turn()
        if pending:
            await self._send_audio(pending, request.sample_rate)
            sent_bytes += len(pending)
        duration_ms = end * 1000 // SAMPLE_RATE
        await self._send_text(protocol.success(request, sent_bytes, duration_ms))

    async def refuse(self, problem: WireError, close_code: int | None = None) -> None:
        """Say why, then close."""
        with contextlib.suppress(WebSocketDisconnect):
            await self._send_error(problem, None)
            await self.close(close_code or problem.close_code, problem.message)

    async def close(self, code: int, reason: str) -> None:
        """Close when the client has taken what was sent; one that does not is cut off."""
        with self._cut_off_after(self._service.limits.max_unsent_audio_s):
            await protocol_of(self._websocket).drained()
        await self.close_now(code, reason)

    async def close_now(self, code: int, reason: str) -> None:
        """Close behind what is not sent yet, which is dropped if it takes long."""
        protocol_of(self._websocket).abort_soon()
        # The client, or another task of ours, may have closed it already.
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, reason.encode()[:120].decode(errors="ignore"))

    async def _send_error(self, problem: WireError, request_id: str | None) -> None:
        self._service.count_error(problem)
        await self._send_text(protocol.error(problem, request_id))

    async def _send_text(self, message: str) -> None:
        async with self._sending:
            await self._send({"type": "websocket.send", "text": message})

    async def _send_audio(self, data: bytes, sample_rate: int) -> None:
        async with self._sending:
            message = {"type": "websocket.send", "bytes": data}
            await self._send(message, _seconds(data, sample_rate))

    async def _send(self, message: dict[str, Any], audio_s: float = 0.0) -> None:
        """Send one message or fragment, holding `_sending`; a listener that falls too far behind
        what it was sent is cut off."""
        try:
            with self._cut_off_after(self._service.limits.max_unsent_audio_s + audio_s):
                await self._websocket.send(message)
        except RuntimeError as error:
            # Starlette's way to say that another task has closed the socket meanwhile.
            raise WebSocketDisconnect(1006) from error

    @contextlib.contextmanager
    def _cut_off_after(self, allowed_s: float) -> Iterator[None]:
        watchdog = asyncio.get_running_loop().call_later(allowed_s, self._give_up)
        try:
            yield
        finally:
            watchdog.cancel()

    def _give_up(self) -> None:
        limit_s = self._service.limits.max_unsent_audio_s
        log.warning("a client did not read for %g s and was disconnected", limit_s)
        self._service.count_error(UnsentAudio(f"audio was not read for {limit_s:g} s"))
        protocol_of(self._websocket).transport.abort()


def _seconds(data: bytes | memoryview, sample_rate: int) -> float:
    return len(data) / (BYTES_PER_SAMPLE * sample_rate)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, WebSocketDisconnect):
        raise error
