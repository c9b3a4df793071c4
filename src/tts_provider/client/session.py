"""A speech session: text goes in as it is written, audio comes out as it is made.

    async with AsyncTTSClient().session(voice="female") as speech:
        speech.append("Hello ")
        speech.append("there.")
        speech.end()
        async for audio in speech:
            play(audio)

What is appended until `end` is one turn; the next `append` begins another one, which goes on with
the conversation. `interrupt`, from whichever task, stops a turn, ends its iteration and tells what
of it was heard; `cancel` stops it and asks nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
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
from tts_provider.client.words import SpokenWord, read_words

SESSION_PATH = "/v1/stream"
_BEGINNINGS = ("input_text.append", "context.append_audio")
_BUSY_CODES = ("over_capacity", "draining", "engine_lost")


@dataclass(frozen=True)
class SpokenText:
    """Which text a stretch of a turn's timeline speaks."""

    text: str
    start_ms: int
    end_ms: int
    voice: str = ""
    """Who said it, where that is not the turn's first voice only."""


@dataclass(frozen=True)
class Interruption:
    """What of a turn's text was heard, and what not: for the history of a language model."""

    played_ms: int
    heard: str
    """As it was appended, up to the word that was playing."""
    unheard: str


@dataclass(eq=False)
class _Turn:
    context_id: str
    continues: str | None = None
    """The turn before, whose conversation goes on."""
    has_begun: bool = False
    arrived: asyncio.Queue[bytes | TTSClientError | None] = field(default_factory=asyncio.Queue)
    ended: bool = False
    """No more text is to come."""
    over: bool = False
    """No more audio is to come."""
    heard: bool = False
    """All of it was taken, or nobody wants it."""
    consumed: bool = False
    """Somebody has iterated over it to its end."""
    segments: list[SpokenText] = field(default_factory=list)
    words: list[SpokenWord] = field(default_factory=list)
    failure: TTSClientError | None = None

    def finish(self, failure: TTSClientError | None = None) -> None:
        if not self.over:
            self.over = True
            self.arrived.put_nowait(failure)


class SpeechSession:
    """One connection to a server's `/v1/stream`, and one turn at a time."""

    def __init__(self, url: str, options: dict[str, Any], settings: dict[str, Any]) -> None:
        self._url = url.rstrip("/") + SESSION_PATH
        self._options = options
        self._settings = settings
        self._socket: ClientConnection | None = None
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._turn: _Turn | None = None
        self._turns = 0
        self._begun = asyncio.Event()  # another turn has, or none will
        self._problem: TTSClientError | None = None
        self._interruptions: dict[str, asyncio.Future[Interruption]] = {}
        self._buffer: PlaybackBuffer | None = None
        self.info: dict[str, Any] = {}
        """What the server said of itself: engine, sample rate, voices, limits."""

    async def __aenter__(self) -> SpeechSession:
        try:
            self._socket = await connect(self._url, **self._options)
            self.info = await self._expect("session.created")
            await self._socket.send(
                json.dumps({"type": "session.update", "audio": "binary", **self._settings})
            )
            await self._expect("session.updated")
        except (OSError, EOFError, ws.WebSocketException, TTSClientError) as error:
            await self._close()
            if isinstance(error, TTSClientError):
                raise
            raise translate(self._url, error) from error
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
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

    async def play(self, buffer: PlaybackBuffer) -> None:
        """Fill the buffer with the turn's audio as it comes, until all of it has. `interrupt` then
        takes from the buffer how much was played, and empties it. Raises `TTSClientError`."""
        buffer.clear()
        self._buffer = buffer
        async for audio in self:
            buffer.add(audio)

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
        if self._problem is not None:
            raise self._problem
        if turn.context_id not in self._interruptions:
            answered = asyncio.get_running_loop().create_future()
            self._interruptions[turn.context_id] = answered
            message = {"type": "context.interrupt", "context_id": turn.context_id}
            self._outbox.put_nowait(json.dumps({**message, "played_ms": played_ms}))
        try:
            return await asyncio.shield(self._interruptions[turn.context_id])
        finally:
            self._interruptions.pop(turn.context_id, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
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
            is_known = turn is not None and turn.has_begun and turn.failure is None
            before = turn.context_id if turn is not None and is_known else None
            self._turn = _Turn(f"turn-{self._turns}", before)
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
            message |= {"continues": self._turn.continues} if self._turn.continues else {}
        self._outbox.put_nowait(json.dumps(message))

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

    async def _write(self) -> None:
        assert self._socket is not None
        try:
            while True:
                await self._socket.send(await self._outbox.get())
        except ws.ConnectionClosed:
            pass  # the reading task says why

    async def _read(self) -> None:
        assert self._socket is not None
        try:
            while True:
                body = self._parse(await self._socket.recv())
                data = await self._socket.recv() if body["type"] == "audio.delta" else b""
                assert isinstance(data, bytes)
                self._take(body, data)
        except (OSError, EOFError, ws.WebSocketException, TTSClientError) as error:
            if not isinstance(error, TTSClientError):
                error = translate(self._url, error)
            self._end(error)

    def _end(self, problem: TTSClientError) -> None:
        """Whoever waits for something hears why in vain."""
        self._problem = self._problem or problem
        self._begun.set()
        if self._turn is not None:
            self._turn.finish(self._problem)
        for answered in self._interruptions.values():
            if not answered.done():
                answered.set_exception(self._problem)

    def _take(self, body: dict[str, Any], data: bytes) -> None:
        turn, answered = self._turn, self._interruptions.get(body.get("context_id", ""))
        if answered is not None and not answered.done():
            if body["type"] == "context.interrupted":
                answered.set_result(Interruption(body["played_ms"], body["heard"], body["unheard"]))
            elif body["type"] == "error":
                answered.set_exception(_failure(body))
        if turn is None or turn.over or body.get("context_id") != turn.context_id:
            return  # of a turn that was cancelled, or failed
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._end(ConnectionFailed("the session was closed"))
        if self._socket is not None:
            await self._socket.close()


def _failure(body: dict[str, Any]) -> TTSClientError:
    code, message = str(body.get("code", "")), str(body.get("message", ""))
    if code in _BUSY_CODES:
        after_ms = body.get("retry_after_ms")
        return ServerBusy(message, None if after_ms is None else after_ms / 1000, code)
    return RequestFailed(message, code, bool(body.get("retryable")))
