"""Serves one connection of any dialect: connects the dialect, its contexts and their timelines."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.websockets import WebSocketDisconnect

from tts_provider.errors import EngineFailed, InvalidRequest, UnknownKey, WireError
from tts_provider.keys.caller import current_caller
from tts_provider.keys.counts import Place, Usage
from tts_provider.server.connections.socket import Socket, Wire, wait_for
from tts_provider.server.connections.tasks import Tasks
from tts_provider.server.connections.timeline import Timeline
from tts_provider.server.dialects.contexts import Context, Contexts, Item
from tts_provider.server.dialects.dialect import (
    Action,
    Answer,
    Append,
    Audio,
    Begun,
    Cancel,
    Cancelled,
    ChangeVoice,
    Close,
    ContextAction,
    Dialect,
    End,
    EngineLoading,
    Event,
    Greeting,
    Handshake,
    Interrupt,
    Interrupted,
    Listen,
    Problem,
    Refuse,
    Update,
    Updated,
)
from tts_provider.server.service.service import SpeechService
from tts_provider.server.transport.auth import MissingKey
from tts_provider.speech.engine import SAMPLE_RATE, History
from tts_provider.speech.reading import PIECE_CHARACTERS
from tts_provider.speech.transcript import Transcript

_SPOKEN_KEPT = 4  # of the contexts that are over; each keeps up to 3 MB


class DialectSocket(Socket):
    """A connection with contexts. One task reads messages, another watches for idleness and
    shutdown, and every context's timeline has its own."""

    def __init__(
        self,
        wire: Wire,
        service: SpeechService,
        dialect: type[Dialect],
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        missing_key: MissingKey | None = None,
    ) -> None:
        super().__init__(wire, service)
        self.endpoint = dialect.name
        self._dialect = dialect(
            Handshake(
                service.limits,
                lambda voice: service.find_voice(voice, None),
                path or {},
                query or {},
                None if missing_key is None else missing_key.show,
                service.defaults,
            )
        )
        self._missing_key = missing_key
        self._contexts = Contexts(
            service.limits, service.new_reader, lambda: self._dialect.kept_bytes
        )
        self._tasks = Tasks()
        self._timelines: dict[str, tuple[Timeline, asyncio.Task[None]]] = {}
        # The last few contexts that are over: a client may report late how much of them was heard,
        # and another context may continue their conversation.
        self._spoken: OrderedDict[str, Transcript] = OrderedDict()
        self._is_closing = False
        self._asked: Sequence[Action] = ()  # by the message that had the key

    @property
    def is_for_stranger(self) -> bool:
        return self._dialect.is_for_stranger

    async def show_key(self) -> bool:
        try:
            message = await self._first_message()
            if message is not None:
                # A message of another kind, such as binary, brings no key.
                actions = self._dialect.receive(message.get("text") or "")
                if not self.is_for_stranger:
                    self._asked = actions
                    return True
                if self._missing_key is not None and any(
                    isinstance(action, Refuse) and isinstance(action.error, UnknownKey)
                    for action in actions
                ):
                    await self._missing_key.answer_late()
                await self._do(actions)
            # It counts as a stranger until it is closed.
            while (await self._wire.receive())["type"] != "websocket.disconnect":
                pass
        except WireError as problem:  # what arrived is not a message
            await self.refuse(problem)
            self.cut_off()
        except WebSocketDisconnect:
            pass
        return False

    async def _first_message(self) -> dict[str, Any] | None:
        """The first message. If none arrives in time, or the server stops, the connection is closed
        and the result is None. Raises `WebSocketDisconnect`."""
        wait_s, admission = self._service.limits.handshake_timeout_s, self._service.admission
        reading = asyncio.create_task(self._wire.receive())
        reading.add_done_callback(lambda _: self.wake())
        try:
            in_time = admission.refusal is not None or await wait_for(self._woken, wait_s)
            if not reading.done():
                if in_time and admission.refusal is not None:
                    await self.close(admission.refusal.close_code, admission.refusal.message)
                else:
                    await self.close(1000, f"no key was shown for {wait_s:g} s")
                return None
            message = reading.result()
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        return message

    async def run(self) -> None:
        async with self._tasks:
            try:
                await self._greet()
                self._tasks.start(self._watch())
                await self._do(self._asked)
                while (text := await self._receive()) is not None:
                    await self._do(self._dialect.receive(text))
                    self._contexts.check_kept()
                    self.wake()
            except InvalidRequest as problem:
                await self.refuse(problem)
            except WebSocketDisconnect:
                pass

    async def send(self, event: Event) -> None:
        """Send an event to the client. Audio that has begun to be sent is sent whole, even if the
        caller is cancelled, because its messages belong together."""
        if isinstance(event, Problem):
            self._service.count_error(event.error)
        messages = self._dialect.write(event)
        if isinstance(event, Audio):
            audio_s = (event.end_ms - event.start_ms) / 1000
            await self._send_whole(messages, audio_s)
            return
        if messages:
            await self._send_together(messages)
        if isinstance(event, Problem):
            await self._close_after(event)
        await self._do(self._dialect.follow(event))

    async def _send_whole(self, messages: Sequence[str | bytes], audio_s: float) -> None:
        sending = self._tasks.start(self._send_together(messages, audio_s))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending})
            raise

    def finish(self, context_id: str) -> None:
        """End the context, whose id is not used again."""
        self._contexts.finish(context_id)
        self._keep(context_id, self._timelines[context_id][0])

    def _keep(self, context_id: str, timeline: Timeline) -> None:
        self._spoken[context_id] = timeline.transcript
        if len(self._spoken) > _SPOKEN_KEPT:
            self._spoken.popitem(last=False)

    async def _speak(self, context_id: str, timeline: Timeline) -> None:
        await timeline.run()
        self._leave(context_id)

    def _leave(self, context_id: str) -> None:
        """Everything about the context was sent, so that the connection may be closed."""
        self._timelines.pop(context_id, None)
        self.wake()

    async def _close_after(self, problem: Problem) -> None:
        code = self._dialect.close_code(problem)
        if code is not None:
            await self.close(code, problem.error.message)

    def _describe(self, problem: WireError) -> Sequence[str | bytes]:
        return self._dialect.write(Problem(problem))

    async def _greet(self) -> None:
        service = self._service
        voices = await service.voices()
        greeting = Greeting(
            secrets.token_hex(8), service.engine.name, voices, service.limit_facts()
        )
        await self.send(greeting)
        if service.is_loading:
            await self.send(EngineLoading())

    async def _do(self, actions: Sequence[Action]) -> None:
        """Perform the actions of one message until one of them fails."""
        is_refused = False
        for action in actions:
            # A client that sent the end waits for its confirmation.
            if is_refused and not (
                isinstance(action, End) and self._contexts.find(action.context_id)
            ):
                continue
            match action:
                case Refuse(error, context_id):
                    await self.send(Problem(error, context_id))
                case Update(settings):
                    await self.send(Updated(settings))
                case Answer(messages):
                    await self._send_together(messages)
                case Close():
                    self._is_closing = True
                case _:
                    context = self._contexts.find(action.context_id)
                    was_ended = context is None or context.ended
                    try:
                        await self._do_in_context(action)
                    except WireError as problem:
                        is_refused = True
                        await self.send(Problem(problem, action.context_id))
                        if context is not None and context.ended and not was_ended:
                            self._end(context)  # its client waits for that

    async def _interrupt(self, action: Interrupt) -> None:
        context_id, played_ms = action.context_id, action.played_ms
        is_open = self._contexts.find(context_id) is not None
        if is_open or context_id not in self._spoken:
            self._contexts.take(action)
        if is_open:
            timeline, speaking = self._timelines[context_id]
            await self._tasks.stop(speaking)
            self._keep(context_id, timeline)
            played_ms = min(played_ms, timeline.audio_ms)
        heard, unheard = self._spoken[context_id].interrupt(played_ms * SAMPLE_RATE // 1000)
        await self.send(Interrupted(context_id, played_ms, heard, unheard))
        if is_open:
            self._leave(context_id)

    def _find_history(self, context_id: str) -> History:
        """Return what was said in a context that is over. Raises `InvalidRequest`."""
        if context_id not in self._spoken:
            is_open = self._contexts.find(context_id) is not None
            reason = "is not over yet" if is_open else "is none of the last that were spoken here"
            raise InvalidRequest(
                f"context {context_id!r} cannot be gone on with: it {reason}",
                code="unknown_context",
                param="continues",
            )
        history = self._spoken[context_id].history
        return replace(history, segments=[*history.segments])

    async def _do_in_context(self, action: ContextAction) -> None:
        if isinstance(action, Interrupt):
            await self._interrupt(action)
            return
        history = None
        if isinstance(action, Append | Listen) and action.opening.continues is not None:
            if self._contexts.find(action.context_id) is not None:
                raise InvalidRequest(
                    f"context {action.context_id!r} has begun; say what it continues with a "
                    "context's first message only",
                    param="continues",
                )
            history = self._find_history(action.opening.continues)
        context_id, end_stream = action.context_id, self._begin_stream(action)
        try:
            items, place = await self._take_counted(action)
            if isinstance(action, ChangeVoice) and context_id not in self._timelines:
                return  # what comes next begins it
            if context_id not in self._timelines:
                context = self._contexts.find(context_id)
                if context is None:  # it ended while its text was read
                    return
                await self.send(Begun(context_id))
                timeline = Timeline(context, self._service, self, history)
                speaking = self._tasks.start(self._speak(context_id, timeline))
                self._timelines[context_id] = timeline, speaking
                if end_stream is not None:
                    speaking.add_done_callback(_ignoring_result(end_stream))
                    end_stream = None
        finally:
            if end_stream is not None:
                end_stream()
        if isinstance(action, Append) and place is not None:
            self._timelines[context_id][0].meter.took(len(action.text), place)
        timeline, speaking = self._timelines[context_id]
        if isinstance(action, Cancel):
            await self._tasks.stop(speaking)
            self._keep(context_id, timeline)
            await self.send(Cancelled(context_id, timeline.audio_ms))
            self._leave(context_id)
        else:
            timeline.add(*items)

    def _end(self, context: Context) -> None:
        """End the timeline after what it has, without the text that could not be read."""
        if context.id in self._timelines:
            self._timelines[context.id][0].add(*context.wait(End(context.id)))

    def _begin_stream(self, action: ContextAction) -> Callable[[], None] | None:
        """Count a request and a stream of the caller if the action begins a context. The result
        ends the stream. Raises `LimitReached`, and `Unauthorized` if the key is no longer valid."""
        if not isinstance(action, Append | Listen) or action.context_id in self._timelines:
            return None
        caller, allowances = current_caller(), self._service.allowances
        end_stream = allowances.begin_stream(caller)
        try:
            allowances.take_request(caller)
        except WireError:
            end_stream()
            raise
        return end_stream

    async def _take_counted(self, action: ContextAction) -> tuple[list[Item], Place | None]:
        """Return what the timeline is to do now, and where its characters are counted. Raises
        `LimitReached` too; an open context may exceed the limit by the length of one text."""
        if not isinstance(action, Append):
            return self._contexts.take(action), None
        caller, allowances = current_caller(), self._service.allowances
        if caller.name is None and not allowances.keys.has_names:
            return await self._take(action), None
        is_begun, context = action.context_id in self._timelines, None
        if is_begun:
            allowances.keys.check(caller)
            context = self._contexts.find(action.context_id)
        beyond = self._service.limits.max_text_characters if is_begun else 0
        characters = len(action.text)
        allowances.check_characters(caller, characters, beyond=beyond)
        place = self._service.place_of(context.voice if context else action.opening.settings.voice)
        allowances.counts.add(place, Usage(characters=characters))
        try:
            return await self._take(action), place
        except WireError:
            allowances.counts.add(place, Usage(characters=-characters))
            raise

    async def _take(self, action: Append) -> list[Item]:
        if len(action.text) <= PIECE_CHARACTERS:
            return self._contexts.take(action)
        reading = self._contexts.begin(action)
        try:
            passages = await self._service.readings.read(reading.read)
        except InvalidRequest:
            self._contexts.abandon(reading)
            if action.context_id in self._timelines:
                self._timelines[action.context_id][0].add()  # it could take no clause meanwhile
            raise
        return self._contexts.complete(reading, passages)

    def _is_done(self) -> bool:
        """Whether no context has text to speak, nor an unfinished sentence in a turn that has
        begun. A turn that has not begun is refused while the server drains."""
        return not any(t.is_busy or t.is_within_sentence for t, _ in self._timelines.values())

    async def _watch(self) -> None:
        """Close the connection when the server stops, when the client is done, or when it has been
        idle for too long."""
        try:
            while True:
                idle_s = self._service.limits.idle_timeout_s
                if self._dialect.idle_timeout_s is not None:
                    idle_s = min(idle_s, self._dialect.idle_timeout_s)
                refusal = self._service.admission.refusal
                if isinstance(refusal, EngineFailed):
                    await self.send(Problem(refusal))
                if refusal is not None and (isinstance(refusal, EngineFailed) or self._is_done()):
                    await self.close(refusal.close_code, refusal.message)
                    return
                if self._is_closing and not self._timelines:
                    await self.close(1000, "all was spoken")
                    return
                in_time = await wait_for(self._woken, idle_s)
                if not in_time and not any(t.is_heard for t, _ in self._timelines.values()):
                    await self.close(1000, f"nothing was asked for {idle_s:g} s")
                    return
        except WebSocketDisconnect:
            pass


def _ignoring_result(do: Callable[[], None]) -> Callable[[asyncio.Task[None]], None]:
    return lambda _: do()
