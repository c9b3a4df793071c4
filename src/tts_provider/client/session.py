"""A speech session: text goes in as it is written, audio comes out as it is made.

    async with AsyncTTSClient().session(voice="female") as speech:
        speech.append("Hello ")
        speech.append("there.")
        speech.end()
        async for audio in speech:
            play(audio)

What is appended until `end` is one turn; the next `append` begins another one, which goes on with
the conversation. `play` plays a turn instead of handing it out. `interrupt`, from whichever task,
stops a turn, ends its iteration and tells what of it was heard; `cancel` stops it and asks nothing.

A session that reconnects goes on behind a connection that broke: a turn of which nothing was spoken
is told again, one that was being spoken fails, and `losses` has what the server no longer knows.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection, connect

from tts_provider.client.errors import (
    ConnectionFailed,
    RequestFailed,
    ServerBusy,
    TTSClientError,
    translate,
)
from tts_provider.client.playback import PlaybackBuffer
from tts_provider.client.player import Player
from tts_provider.client.turn import ConnectionLoss, Interruption, SpokenText, Turn
from tts_provider.client.words import SpokenWord, read_words

SESSION_PATH = "/v1/stream"
_BEGINNINGS = ("input_text.append", "context.append_audio")
_BUSY_CODES = ("over_capacity", "draining", "engine_lost")
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 10.0
_IO_ERRORS = (OSError, EOFError, ws.WebSocketException)


class SpeechSession:
    """One connection to a server's `/v1/stream`, and one turn at a time."""

    def __init__(
        self, url: str, options: dict[str, Any], settings: dict[str, Any], reconnects: int = 0
    ) -> None:
        """`reconnects` is how often in a row it is tried to connect again where the connection
        breaks; with 0 the session ends there."""
        self._url = url.rstrip("/") + SESSION_PATH
        self._options = options
        self._settings = settings
        self._reconnects = reconnects
        self._socket: ClientConnection | None = None
        self._outbox: deque[dict[str, Any]] = deque()
        self._has_more = asyncio.Event()  # in the outbox
        self._task: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._turns = 0
        self._turns_known = 0  # to the server, over this connection
        self._begun = asyncio.Event()  # another turn has, or none will
        self._problem: TTSClientError | None = None
        self._interruptions: dict[str, asyncio.Future[Interruption]] = {}
        self._buffer: PlaybackBuffer | None = None
        self._player: Player | None = None
        self._updated: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        """What the server said of itself: engine, sample rate, voices, limits."""
        self.losses: list[ConnectionLoss] = []
        """The connections that broke and were followed by another one."""

    async def __aenter__(self) -> SpeechSession:
        await self._connect()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    @property
    def segments(self) -> list[SpokenText]:
        """What this turn has spoken so far."""
        return [] if self._turn is None else list(self._turn.segments)

    @property
    def words(self) -> list[SpokenWord]:
        """When each word of what this turn has spoken so far is heard, in a session with
        `words=True`. Those of a sentence arrive behind its audio."""
        return [] if self._turn is None else list(self._turn.words)

    def append(self, text: str, voice: str | None = None) -> None:
        """Some more text, cut wherever it happens to be. The first of a turn begins it; another
        voice than before ends the sentence, and says what follows."""
        self._begin()
        self._tell("input_text.append", text=text, **({"voice": voice} if voice else {}))

    def append_audio(self, text: str, audio: bytes, speaker: int = 1) -> None:
        """What the other side just said, `audio` being a file of any common format: the model
        answers in its tone."""
        self._begin()
        encoded = base64.b64encode(audio).decode()
        self._tell("context.append_audio", text=text, audio=encoded, speaker=speaker)

    def flush(self) -> None:
        """Speak what is there without waiting for the end of its sentence."""
        self._tell("input_text.flush")

    def end(self) -> None:
        """No more text for this turn; its audio ends when all of it was spoken."""
        self._tell("input_text.end")
        assert self._turn is not None
        self._turn.ended = True

    async def cancel(self) -> None:
        """Interrupt the turn: its iteration ends, and what is still on its way is dropped."""
        turn = self._turn
        if turn is None or turn.heard:
            return
        if not turn.over:
            self._tell("context.cancel")
        turn.heard = True
        turn.finish()

    async def play(self, buffer: PlaybackBuffer | None = None) -> None:
        """Play the turn as it comes, with whatever player the machine has, until all of it was
        heard or `interrupt` was called, which then knows how much was. With a `buffer` of one's
        own a sound device's callback plays, and this ends when all audio is in there.

        Raises `TTSClientError`: `PlaybackFailed` where there is no player, or it failed.
        """
        if buffer is None:
            if self._player is None:
                self._player = Player(self._updated["format"], self._updated["sample_rate"])
            buffer = self._player
        buffer.clear()
        self._buffer = buffer
        try:
            async for audio in self:
                buffer.add(audio)
            await asyncio.to_thread(buffer.finish)
        except BaseException:
            buffer.stop()
            raise

    async def interrupt(self, played_ms: int | None = None) -> Interruption:
        """Stop the turn, of whose audio the listener heard so much (by default what the buffer of
        `play` counted): its iteration ends, and what is still on its way is dropped. It may be
        called when all audio has arrived, since that is heard later. What the engine remembers of
        the turn is what was heard.

        It is told to the word in a session with `words=True`, or where the engine says its words
        anyway; else by how long the sentence is. Raises `TTSClientError`.
        """
        counted_ms = 0 if self._buffer is None else self._buffer.clear()
        played_ms = counted_ms if played_ms is None else played_ms
        turn = self._turn
        if turn is None or not turn.has_begun:
            return Interruption(0, "", "")
        turn.heard = True
        turn.finish()
        if (problem := self._problem or turn.forgotten) is not None:
            raise problem
        if turn.context_id not in self._interruptions:
            answered = asyncio.get_running_loop().create_future()
            self._interruptions[turn.context_id] = answered
            message = {"type": "context.interrupt", "context_id": turn.context_id}
            self._put({**message, "played_ms": played_ms})
        try:
            return await asyncio.shield(self._interruptions[turn.context_id])
        finally:
            self._interruptions.pop(turn.context_id, None)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """The turn's audio, in the session's format; that of the next one where none has begun, or
        the last was heard. Raises `TTSClientError`."""
        turn = self._turn
        while turn is None or turn.consumed:
            if self._problem is not None:
                raise self._problem
            self._begun.clear()
            await self._begun.wait()
            turn = self._turn
        try:
            while not turn.heard:
                item = await turn.arrived.get()
                if isinstance(item, bytes):
                    if not turn.heard:
                        yield item
                    continue
                turn.heard = True
                if item is not None:
                    raise item
        finally:
            turn.consumed = turn.heard

    def _begin(self) -> None:
        turn = self._turn
        if turn is None or turn.heard:
            self._turns += 1
            # Of a turn that failed the server may know nothing.
            before = None
            if turn is not None and turn.has_begun and not (turn.failure or turn.forgotten):
                before = turn.context_id
            self._turn = Turn(f"turn-{self._turns}", before)
            self._begun.set()
        elif turn.failure is not None:
            raise turn.failure
        elif turn.ended:
            raise RuntimeError("the turn was ended; hear it to its end or cancel it first")

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._problem is not None:
            raise self._problem
        if self._turn is not None and self._turn.failure is not None:
            raise self._turn.failure
        if self._turn is None or self._turn.over:
            raise RuntimeError("the turn is over; append text to begin another one")
        message = {"type": kind, "context_id": self._turn.context_id, **fields}
        if not self._turn.has_begun and kind in _BEGINNINGS:
            self._turn.has_begun = True
            self._turns_known += 1
            message |= {"continues": self._turn.continues} if self._turn.continues else {}
        if self._reconnects and self._turn.messages is not None:
            self._turn.messages.append(message)
        self._put(message)

    def _put(self, message: dict[str, Any]) -> None:
        self._outbox.append(message)
        self._has_more.set()

    async def _connect(self) -> None:
        try:
            self._socket = await connect(self._url, **self._options)
            self.info = await self._expect("session.created")
            await self._socket.send(
                json.dumps({"type": "session.update", "audio": "binary", **self._settings})
            )
            self._updated = await self._expect("session.updated")
        except (*_IO_ERRORS, TTSClientError) as error:
            if self._socket is not None:
                await self._socket.close()
            if isinstance(error, TTSClientError):
                raise
            raise translate(self._url, error) from error

    async def _expect(self, kind: str) -> dict[str, Any]:
        assert self._socket is not None
        while True:
            body = self._parse(await self._socket.recv())
            if body["type"] == kind:
                return body
            if body["type"] == "error":
                raise _failure(body)

    def _parse(self, message: str | bytes) -> dict[str, Any]:
        try:
            body: dict[str, Any] = json.loads(message)
            body["type"]
        except (ValueError, TypeError, KeyError):
            raise ConnectionFailed(f"{self._url} is not a tts-provider server") from None
        return body

    async def _run(self) -> None:
        """Connections, one after another, until one is the last."""
        while True:
            problem = await self._exchange()
            if not self._reconnects or not problem.is_retryable:
                self._end(problem)
                return
            self._lose(problem)
            # Whoever says nothing needs no connection, which would be closed for idleness again.
            await self._wait_for_more()
            try:
                await self._reconnect()
            except TTSClientError as error:
                self._end(error)
                return

    async def _exchange(self) -> TTSClientError:
        """Over one connection, until it breaks; why it did."""
        writing = asyncio.create_task(self._write())
        try:
            await self._read()
        except TTSClientError as error:
            return error
        except _IO_ERRORS as error:
            return translate(self._url, error)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        raise AssertionError("reading ends by an error")

    async def _reconnect(self) -> None:
        for attempt in range(1, self._reconnects + 1):
            try:
                return await self._connect()
            except TTSClientError as error:
                if attempt == self._reconnects or not error.is_retryable:
                    raise
                after_s = error.retry_after_s if isinstance(error, ServerBusy) else None
                wait_s = after_s or _FIRST_RETRY_S * 2 ** (attempt - 1)
            await asyncio.sleep(min(wait_s, _LONGEST_RETRY_S))
        return None

    def _lose(self, problem: TTSClientError) -> None:
        """The server knows nothing any more. A turn that it did not answer is told again."""
        turn, is_lost, forgotten = self._turn, False, self._turns_known
        self._outbox.clear()
        self._turns_known = 0
        if turn is not None and turn.has_begun:
            if turn.messages and not turn.over and not turn.is_told_again:
                turn.is_told_again = True  # once: it may be what the connection broke by
                turn.messages[0].pop("continues", None)
                self._outbox += turn.messages
                self._has_more.set()
                self._turns_known, forgotten = 1, forgotten - 1
            else:
                turn.forgotten, is_lost = problem, not turn.over
                if is_lost:
                    turn.failure = problem
                    turn.finish(problem)
        self.losses.append(ConnectionLoss(problem, forgotten, is_lost))
        self._refuse_interruptions(problem)

    def _refuse_interruptions(self, problem: TTSClientError) -> None:
        for answered in self._interruptions.values():
            if not answered.done():
                answered.set_exception(problem)

    async def _wait_for_more(self) -> None:
        while not self._outbox:
            self._has_more.clear()
            await self._has_more.wait()

    async def _write(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(ws.ConnectionClosed):  # whoever reads says why
            while True:
                await self._wait_for_more()
                await self._socket.send(json.dumps(self._outbox.popleft()))

    async def _read(self) -> None:
        assert self._socket is not None
        while True:
            body = self._parse(await self._socket.recv())
            data = await self._socket.recv() if body["type"] == "audio.delta" else b""
            assert isinstance(data, bytes)
            self._take(body, data)

    def _end(self, problem: TTSClientError) -> None:
        """Whoever waits for something hears why in vain."""
        self._problem = self._problem or problem
        self._begun.set()
        if self._turn is not None:
            self._turn.finish(self._problem)
        self._refuse_interruptions(self._problem)

    def _take(self, body: dict[str, Any], data: bytes) -> None:
        turn, answered = self._turn, self._interruptions.get(body.get("context_id", ""))
        if answered is not None and not answered.done():
            if body["type"] == "context.interrupted":
                answered.set_result(Interruption(body["played_ms"], body["heard"], body["unheard"]))
            elif body["type"] == "error":
                answered.set_exception(_failure(body))
        if turn is None or turn.over or body.get("context_id") != turn.context_id:
            return  # of a turn that was cancelled, or failed
        turn.messages = None
        if body["type"] == "audio.delta":
            turn.arrived.put_nowait(data)
        elif body["type"] == "audio.segment":
            place = body["start_ms"], body["end_ms"]
            turn.segments.append(SpokenText(body["text"], *place, body.get("voice", "")))
        elif body["type"] == "audio.words":
            turn.words += read_words(body)
        elif body["type"] == "error":
            # The first refusal ends the turn: what the server made of the rest is not what was
            # meant. It may have no context to speak of.
            self._tell("context.cancel")
            turn.failure = _failure(body)
            turn.finish(turn.failure)
        elif body["type"] == "context.done":
            turn.finish()

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end(ConnectionFailed("the session was closed"))
        if self._player is not None:
            self._player.stop()
        if self._socket is not None:
            await self._socket.close()


def _failure(body: dict[str, Any]) -> TTSClientError:
    code, message = str(body.get("code", "")), str(body.get("message", ""))
    if code in _BUSY_CODES:
        after_ms = body.get("retry_after_ms")
        return ServerBusy(message, None if after_ms is None else after_ms / 1000, code)
    return RequestFailed(message, code, bool(body.get("retryable")))
