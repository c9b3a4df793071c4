"""A replica: any engine behind HTTP, for gateways. A plain ASGI application that knows neither the
server that runs it nor what spreads requests over its kind.

It speaks as many streams as it has places and keeps no line: who comes then is told so, and waits
or goes elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from starlette.types import Receive, Scope, Send

from tts_provider.engines.remote.exchange import Exchange
from tts_provider.engines.remote.frames import Frame, SamplesFrame, WordsFrame
from tts_provider.engines.remote.messages import (
    Description,
    ListenRequest,
    SpeakRequest,
    read_message,
)
from tts_provider.engines.remote.metrics import ReplicaMetrics
from tts_provider.engines.remote.proof import Guard
from tts_provider.errors import (
    Draining,
    EngineFailed,
    InvalidRequest,
    Loading,
    WireError,
)
from tts_provider.speech.engine import Engine, Samples, Utterance, Voice
from tts_provider.voices.store import VoiceStore
from tts_provider.waiting.line import Line, try_later

_MAX_BODY_BYTES = 16 * 1024 * 1024
"""A minute of samples to listen to, in base64, is half of it."""


class Replica:
    def __init__(
        self,
        engine: Engine,
        store: VoiceStore | None,
        *,
        name: str,
        max_streams: int,
        keys: Sequence[str] = (),
        metrics_keys: Sequence[str] = (),
        alive_s: float = 2.0,
    ) -> None:
        """Gateways must prove that they have one of `keys`, where there are some; who reads the
        metrics may also show one of `metrics_keys`. A frame leaves at least every `alive_s`."""
        self._engine = engine
        self._store = store
        self._name = name
        self._max_streams = max_streams
        self._guard = Guard(keys) if keys else None
        self._metrics_keys = tuple(metrics_keys)
        self._alive_s = alive_s
        self._is_loaded = False
        self._is_draining = False
        full = f"all {max_streams} streams of the replica are busy; try again later"
        self._line = Line(max_streams, try_later(full), waiting=0)
        self.metrics = ReplicaMetrics(lambda: self.active, lambda: self.refusal is None)

    @property
    def active(self) -> int:
        """Passages that are spoken, or heard."""
        return self._line.taken

    @property
    def refusal(self) -> WireError | None:
        """Why nothing new is taken, if so."""
        if self._is_draining:
            return Draining("the replica is shutting down; ask another one")
        if not self._is_loaded:
            return Loading("the replica is still loading its model; try again later")
        return self._engine.problem

    def open(self) -> None:
        """The engine is loaded."""
        self._is_loaded = True

    def drain(self) -> None:
        """Refuse what is new; what is spoken goes on."""
        self._is_draining = True

    async def wait_idle(self) -> None:
        """Until nothing is spoken."""
        await self._line.wait_empty()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"a replica answers HTTP, not {scope['type']}")
        exchange = Exchange(scope, receive, send, self._name)
        try:
            await self._answer(exchange)
        except WireError as problem:
            await exchange.refuse(problem)

    async def _answer(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "GET", "/health":
                if isinstance(self._engine.problem, EngineFailed):  # only a restart helps
                    body = b'{"status": "engine_failed"}'
                    await exchange.answer(503, "application/json", body)
                else:
                    await exchange.answer(200, "application/json", b'{"status": "ok"}')
            case "GET", "/ready":
                self._check_open()
                await exchange.answer(200, "application/json", b'{"status": "ready"}')
            case "GET", "/metrics":
                if not self._shows_metrics_key(exchange):
                    self._check_key(exchange)
                await exchange.answer(200, "text/plain; charset=utf-8", self.metrics.render())
            case "GET", "/describe":
                self._check_key(exchange)
                self._check_open()
                body = self._describe().encode()
                await exchange.answer(200, "application/json", body)
            case "POST", "/speak":
                self._check_key(exchange)
                await self._speak(exchange)
            case "POST", "/listen":
                self._check_key(exchange)
                await self._listen(exchange)
            case method, path:
                raise InvalidRequest(
                    f"a replica has no {method} {path[:64]}; it has POST /speak, POST /listen and "
                    "GET /describe",
                    code="not_found",
                    http_status=404,
                )

    def _check_key(self, exchange: Exchange) -> None:
        """From here on the answer proves the key, too. Raises `Unauthorized`."""
        if self._guard is None:
            return
        authorization = exchange.header(b"authorization")
        proof = self._guard.identify(authorization, exchange.method, exchange.path)
        exchange.proof = proof
        self._guard.admit(proof)

    def _shows_metrics_key(self, exchange: Exchange) -> bool:
        """Prometheus signs nothing: it has a key of its own."""
        scheme, _, offered = exchange.header(b"authorization").partition(" ")
        shown = offered.strip().encode()
        are_same = [hmac.compare_digest(shown, key.encode()) for key in self._metrics_keys]
        return scheme.lower() == "bearer" and any(are_same)

    def _check_open(self) -> None:
        if (refusal := self.refusal) is not None:
            raise refusal

    def _describe(self) -> Description:
        engine = self._engine
        return Description(
            replica=self._name,
            engine=engine.name,
            model=engine.model,
            device=engine.device,
            precision=engine.precision,
            speeds=engine.speeds,
            takes_prompts=engine.takes_prompts,
            takes_acts=engine.takes_acts,
            voices=list(engine.voices()),
            max_streams=self._max_streams,
            repeats=sorted({v.source for v in engine.voices() if engine.of(v).repeats}),
        )

    def _place(self) -> AbstractAsyncContextManager[None]:
        """A place to speak, which raises `OverCapacity` where there is none. Raises `WireError`
        where nobody has one."""
        self._check_open()
        return self._line.place()

    async def _speak(self, exchange: Exchange) -> None:
        request = read_message(SpeakRequest, await exchange.read_body(_MAX_BODY_BYTES))
        utterance = request.utterance(self._find_voice(request.voice))
        async with self._place():
            frames = self.metrics.watch(self._speech(utterance), utterance.voice.id)
            await exchange.stream(
                frames,
                ahead_s=request.ahead_s,
                alive_s=self._alive_s,
                known_samples=request.known_samples,
            )

    async def _speech(self, utterance: Utterance) -> AsyncGenerator[Frame, None]:
        history, known = utterance.history, utterance.history.count
        async with aclosing(self._engine.speak(utterance)) as chunks:
            async for chunk in chunks:
                if chunk.words:
                    yield WordsFrame(chunk.words)
                yield SamplesFrame(chunk.samples)
        if history.count > known:
            for spoken in history.segments[known - history.count :]:
                yield spoken

    async def _listen(self, exchange: Exchange) -> None:
        # Up to a minute of audio in base64 is not for the event loop.
        body = await exchange.read_body(_MAX_BODY_BYTES)
        request = await asyncio.to_thread(read_message, ListenRequest, body)
        samples = await asyncio.to_thread(request.audio)
        async with self._place():
            heard = self._heard(request, samples)
            await exchange.stream(heard, ahead_s=None, alive_s=self._alive_s)

    async def _heard(self, request: ListenRequest, samples: Samples) -> AsyncGenerator[Frame, None]:
        yield await self._engine.listen(request.text, request.speaker, samples)

    def _find_voice(self, voice_id: str) -> Voice:
        """Raises `InvalidRequest` where there is none of that id."""
        for voice in self._engine.voices():
            if voice.id == voice_id:
                return voice
        mixed = self._engine.mixture(voice_id)
        if mixed is not None:
            return mixed
        if self._engine.takes_prompts and self._store is not None:
            # A small file is read here, on the event loop, once for each voice.
            stored = self._store.get(voice_id)
            if stored is not None:
                return stored.voice()
        raise InvalidRequest(
            f"there is no voice {voice_id[:64]!r} where the engine runs; gateways and replicas "
            "must share one data folder",
            code="unknown_voice",
            param="voice",
        )
