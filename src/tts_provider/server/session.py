"""`/v1/stream`: pumps one socket through the session protocol and the contexts it has."""

from __future__ import annotations

import asyncio
import secrets

from starlette.websockets import WebSocket, WebSocketDisconnect

from tts_provider.errors import EngineFailed, WireError
from tts_provider.server.context import Context
from tts_provider.server.dialects import native as wire
from tts_provider.server.fields import Said
from tts_provider.server.service import SpeechService, voice_facts
from tts_provider.server.socket import Socket, stop, wait_for


class SessionSocket(Socket):
    """A task reads messages, another watches over idle time and shut-down, and every context has
    one of its own."""

    def __init__(self, websocket: WebSocket, service: SpeechService) -> None:
        super().__init__(websocket, service)
        self._session = wire.Session(service.limits, lambda voice: service.find_voice(voice, None))
        self._contexts: dict[str, Context] = {}

    async def run(self) -> None:
        watching: asyncio.Task[None] | None = None
        try:
            await self._greet()
            watching = asyncio.create_task(self._watch())
            while (text := await self._receive()) is not None:
                for action in self._session.receive(text):
                    await self._do(action)
                self.wake()
        except WebSocketDisconnect:
            pass
        finally:
            for context in list(self._contexts.values()):
                await context.stop()
            if watching is not None:
                await stop(watching)

    async def send_audio(
        self, context_id: str, start_ms: int, end_ms: int, data: bytes, way: str
    ) -> None:
        """One stretch of a context's timeline. Once begun it is sent, whoever is cancelled: its
        two messages belong together."""
        header = wire.delta(context_id, start_ms, end_ms - start_ms, data, way)
        binary = data if way == "binary" else None
        sending = asyncio.create_task(self._send_delta(header, binary, (end_ms - start_ms) / 1000))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending})
            if not sending.cancelled():
                sending.exception()  # the connection's end is noticed by whoever reads
            raise

    async def _send_delta(self, header: str, binary: bytes | None, audio_s: float) -> None:
        async with self._sending:
            await self._send({"type": "websocket.send", "text": header}, audio_s)
            if binary is not None:
                await self._send({"type": "websocket.send", "bytes": binary}, audio_s)

    async def send(self, message: str) -> None:
        await self._send_text(message)

    async def send_error(self, problem: WireError, context_id: str | None) -> None:
        self._service.count_error(problem)
        await self._send_text(wire.error(problem, context_id))

    def take_clause(self, context_id: str) -> list[str]:
        return list(self._session.take_clause(context_id))

    def spoken(self, context_id: str, segment: str) -> None:
        self._session.spoken(context_id, segment)

    def heard(self, context_id: str, said: Said) -> None:
        self._session.heard(context_id, said)

    def finish(self, context_id: str) -> None:
        """The context is over; its id is not used again."""
        self._session.finish(context_id)
        self._contexts.pop(context_id, None)
        self.wake()

    def _describe(self, problem: WireError) -> str:
        return wire.error(problem)

    async def _greet(self) -> None:
        service = self._service
        facts = {
            "engine": service.engine.name,
            "sample_rate": service.engine.sample_rate,
            "voices": [voice_facts(voice) for voice in await service.voices()],
            "limits": service.limit_facts(),
        }
        await self._send_text(wire.created(secrets.token_hex(8), facts))
        if not service.admission.is_open and service.admission.refusal is None:
            await self._send_text(wire.loading())

    async def _do(self, action: wire.Action) -> None:
        match action:
            case wire.Refuse(error, context_id):
                await self.send_error(error, context_id)
            case wire.Updated(settings):
                await self._send_text(wire.updated(settings))
            case wire.Begin(context_id, settings):
                self._contexts[context_id] = Context(context_id, settings, self._service, self)
            case wire.Say(context_id, segments):
                self._contexts[context_id].add(*segments)
            case wire.Cancel(context_id):
                context = self._contexts[context_id]
                await context.stop()
                self.finish(context_id)
                await self._send_text(wire.cancelled(context_id, context.audio_ms))
            case wire.Flush(context_id) | wire.End(context_id) | wire.Listen(context_id):
                self._contexts[context_id].add(action)

    def _is_done(self) -> bool:
        """No context has anything to say that its writer has begun."""
        contexts = self._contexts.items()
        return not any(c.is_busy or self._session.has_text(name) for name, c in contexts)

    async def _watch(self) -> None:
        """Close the connection when the server goes, or when nothing happens for long."""
        idle_s = self._service.limits.idle_timeout_s
        try:
            while True:
                refusal = self._service.admission.refusal
                if isinstance(refusal, EngineFailed):
                    await self.send_error(refusal, None)
                if refusal is not None and (isinstance(refusal, EngineFailed) or self._is_done()):
                    await self.close(refusal.close_code, refusal.message)
                    return
                in_time = await wait_for(self._woken, idle_s)
                if not in_time and not any(c.is_heard for c in self._contexts.values()):
                    await self.close(1000, f"nothing was asked for {idle_s:g} s")
                    return
        except WebSocketDisconnect:
            pass
