"""Clients of a tts-provider server: `TTSClient` for plain programs, `AsyncTTSClient` for asyncio.

    with TTSClient("ws://localhost:8765") as client:
        wav = client.speak("Hello there.")

Both connect when first used and again when the server went away, and repeat a request where the
server is busy, restarting or without an engine and nothing of the reply was heard yet. A client is
for one request at a time: a second one meanwhile is a `RuntimeError`.

A request is a conversation without I/O (`_converse`): it says what to do, and a client does it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SHUT_RDWR
from types import TracebackType
from typing import Any

from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import ClientConnection as SyncConnection
from websockets.sync.client import connect as connect_sync

from tts_provider.client.address import DEFAULT_URL, check_url, connect_options, socket_url
from tts_provider.client.blocking import BlockingSpeechSession
from tts_provider.client.errors import (
    ConnectionFailed,
    RequestFailed,
    ServerBusy,
    TTSClientError,
    translate,
)
from tts_provider.client.session import SpeechSession
from tts_provider.client.words import SpokenWord, read_words

Turn = Mapping[str, Any]
"""Of a dialogue: `text`, and `voice` or `speaker`."""

_OPTIONS = (
    *("voice", "speaker", "format", "sample_rate", "speed", "seed", "temperature", "top_k"),
    *("timestamps", "max_audio_length_ms", "context", "ssml", "read_aloud", "voice_tags"),
    *("pronunciations", "request_id"),
)
_RETRY_CODES = ("over_capacity", "draining", "engine_lost")
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 10.0

_ONE_AT_A_TIME = (
    "this client is in the middle of another request; "
    "hear or close its stream first, or use a client for each request"
)
_CLOSED = "the client was closed in the middle of the request"


@dataclass(frozen=True)
class _Connect:
    """Connect unless connected; the answer is whether the connection is an old one."""


@dataclass(frozen=True)
class _Send:
    message: str


@dataclass(frozen=True)
class _Receive:
    """The answer is the next message."""


@dataclass(frozen=True)
class _Wait:
    """Drop the connection and wait."""

    seconds: float


@dataclass(frozen=True)
class _Heard:
    """Hand this to the caller."""

    value: bytes | dict[str, Any]


@dataclass(frozen=True)
class _Told:
    """Remember these for the caller."""

    words: list[SpokenWord]


_Conversation = Generator[_Connect | _Send | _Receive | _Wait | _Heard | _Told, Any, None]

# TimeoutError is an OSError; a proxy's refusal is a WebSocketException.
_IO_ERRORS = (OSError, EOFError, ws.WebSocketException)


def _converse(url: str, request: dict[str, Any], attempts: int) -> _Conversation:
    """One request until it is answered; yields audio messages, or the body of an info reply."""
    check_url(url)
    message, attempt = json.dumps(request), 1
    stream, wants_audio = bool(request.get("stream")), "command" not in request
    while True:
        heard = old_connection = False
        try:
            old_connection = yield _Connect()
            yield _Send(message)
            while True:
                reply = yield _Receive()
                if isinstance(reply, bytes):
                    heard = True
                    yield _Heard(reply)
                    if not stream:
                        return
                    continue
                body = _read_status(url, reply)
                if wants_audio and (words := read_words(body)):
                    yield _Told(words)
                if body["status"] == "success" and not wants_audio:
                    yield _Heard(body)
                    return
                if body["status"] == "success" and stream:
                    return
        except (*_IO_ERRORS, TTSClientError) as error:
            problem = error if isinstance(error, TTSClientError) else translate(url, error)
            if heard or isinstance(problem, RequestFailed):
                raise problem from error
            if isinstance(problem, ConnectionFailed) and old_connection:
                yield _Wait(0.0)  # it was closed while nobody used it
                continue
            # A server that restarts is away for a moment between saying so and being back.
            if attempt >= attempts or (attempt == 1 and not isinstance(problem, ServerBusy)):
                raise problem from error
            after_s = problem.retry_after_s if isinstance(problem, ServerBusy) else None
            yield _Wait(min(after_s or _FIRST_RETRY_S * 2 ** (attempt - 1), _LONGEST_RETRY_S))
            attempt += 1


def _read_status(url: str, message: str) -> dict[str, Any]:
    """A text message's body; raises what it says went wrong."""
    try:
        body: dict[str, Any] = json.loads(message)
        status = body["status"]
    except (ValueError, TypeError, KeyError):
        raise ConnectionFailed(f"{url} is not a tts-provider server") from None
    if status == "error":
        code, text = str(body.get("code", "")), str(body.get("message", ""))
        if code in _RETRY_CODES:
            after_ms = body.get("retry_after_ms")
            raise ServerBusy(text, None if after_ms is None else after_ms / 1000, code)
        raise RequestFailed(text, code)
    return body


def _speech_request(options: dict[str, Any], *, stream: bool, **said: Any) -> dict[str, Any]:
    allowed = (*_OPTIONS, "pause_ms") if "turns" in said else _OPTIONS
    for name in options:
        if name not in allowed:
            raise TypeError(f"there is no option {name!r}; expected one of {', '.join(allowed)}")
    given = {name: value for name, value in options.items() if value is not None}
    return {**said, **given, **({"stream": True} if stream else {})}


def _session(
    url: str, options: dict[str, Any], settings: dict[str, Any], reconnects: int
) -> SpeechSession:
    given = {name: value for name, value in settings.items() if value is not None}
    return SpeechSession(url, options, given, reconnects)


def _check_attempts(attempts: int) -> int:
    if attempts < 1:
        raise ValueError(f"attempts must be 1 or more; got {attempts}")
    return attempts


class TTSClient:
    """Speak through a server, blocking. One request at a time."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 5,
        ca_file: str | Path | None = None,
    ) -> None:
        """`url` is `ws://`, `wss://`, `http://` or `https://`; `attempts` is how often a request is
        tried where the server is busy or restarting; `ca_file` has the certificates, in PEM, of who
        signed the server's, where the system does not know them.

        Raises `ConnectionFailed` where that file has none, or the address is without TLS.
        """
        self._url, self._attempts = socket_url(url), _check_attempts(attempts)
        self._options = connect_options(self._url, api_key, ca_file)
        self.words: list[SpokenWord] = []
        """When each word of the last text is spoken, as far as it is known, if it was asked for
        with `timestamps=True`. In a stream those of a sentence arrive behind its audio."""
        self._socket: SyncConnection | None = None
        self._open = ExitStack()
        self._turn: object | None = None  # whose request is under way
        self._taking_turn = threading.Lock()

    def __enter__(self) -> TTSClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. A request that is under way fails; another one connects again."""
        if self._turn is None:
            self._socket = None
            self._open.close()
        else:
            self._turn = None
            self._drop()

    def speak(self, text: str, **options: Any) -> bytes:
        """The whole audio: a WAV file unless `format` says otherwise.

        `options` are the request's fields: `voice`, `speaker`, `format`, `sample_rate`, `speed`,
        `seed`, `temperature`, `top_k`, `timestamps`, `max_audio_length_ms`, `context`, `ssml`,
        `read_aloud`, `voice_tags`, `pronunciations`, `request_id`. Raises `TTSClientError`, and
        `TypeError` for an option that there is not.
        """
        return b"".join(self._hear(_speech_request(options, stream=False, text=text)))

    def stream(self, text: str, **options: Any) -> Generator[bytes, None, None]:
        """The audio as it is made: bare 16-bit PCM unless `format` says otherwise.

        Closing it before its end interrupts the server at once.
        """
        return self._hear(_speech_request(options, stream=True, text=text))

    def speak_dialogue(self, turns: Sequence[Turn], **options: Any) -> bytes:
        """The whole audio of what several voices say, one after the other.

        A turn has `text` and `voice` or `speaker`, and may have `speed`, `temperature`, `top_k` and
        `seed` of its own; `options` are those of `speak`, for all turns, and `pause_ms`.
        """
        return b"".join(self._hear(_speech_request(options, stream=False, turns=list(turns))))

    def stream_dialogue(
        self, turns: Sequence[Turn], **options: Any
    ) -> Generator[bytes, None, None]:
        """The same as it is made, as `stream` has it."""
        return self._hear(_speech_request(options, stream=True, turns=list(turns)))

    def session(self, *, reconnect: bool = False, **settings: Any) -> BlockingSpeechSession:
        """A speech session of its own connection: `with client.session() as speech`. See
        `AsyncTTSClient.session`."""
        attempts = self._attempts if reconnect else 0
        return BlockingSpeechSession(_session(self._url, self._options, settings, attempts))

    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        body: dict[str, Any]
        (body,) = self._hear({"command": "info"})
        return body

    def _hear(self, request: dict[str, Any]) -> Generator[Any, None, None]:
        turn = object()
        with self._taking_turn:
            if self._turn is not None:
                raise RuntimeError(_ONE_AT_A_TIME)
            self._turn = turn
        self.words = []
        finished = False
        try:
            with closing(_converse(self._url, request, self._attempts)) as talk:
                step = next(talk)
                while True:
                    if isinstance(step, _Heard):
                        yield step.value
                    if self._turn is not turn:
                        raise ConnectionFailed(_CLOSED)
                    try:
                        answer = None if isinstance(step, _Heard) else self._do(step)
                    except _IO_ERRORS as error:
                        if self._turn is not turn:
                            raise ConnectionFailed(_CLOSED) from error
                        self._drop()
                        step = talk.throw(error)
                    else:
                        step = talk.send(answer)
        except StopIteration:
            finished = True
        except RequestFailed:
            finished = True
            raise
        finally:
            if self._turn in (turn, None):
                # What is left of a reply must not answer the next request.
                if not finished:
                    self._drop()
                self._turn = None

    def _drop(self) -> None:
        """Disconnect without the closing handshake, whose answer lies behind unheard audio."""
        socket, self._socket = self._socket, None
        if socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(SHUT_RDWR)
            # The receiving thread stands still until somebody takes what it has.
            with suppress(ws.WebSocketException):
                while True:
                    socket.recv()
        self._open.close()

    def _do(self, step: _Connect | _Send | _Receive | _Wait | _Told) -> Any:
        if isinstance(step, _Told):
            self.words += step.words
            return None
        if isinstance(step, _Wait):
            self._drop()
            return time.sleep(step.seconds)
        if isinstance(step, _Receive):
            assert self._socket is not None
            return self._socket.recv()
        if isinstance(step, _Send):
            assert self._socket is not None
            return self._socket.send(step.message)
        was_open = self._socket is not None
        if self._socket is None:
            self._socket = self._open.enter_context(connect_sync(self._url, **self._options))
        return was_open


class _Turn:
    """Whose request is under way."""

    def __init__(self) -> None:
        self._hearing: weakref.ref[AsyncGenerator[Any, None]] | None = None

    def is_of(self, hearing: AsyncGenerator[Any, None]) -> None:
        self._hearing = weakref.ref(hearing)

    @property
    def is_abandoned(self) -> bool:
        """`async for` was left by `break`: asyncio closes the generator, but some time later."""
        return self._hearing is not None and self._hearing() is None


class AsyncTTSClient:
    """Speak through a server, in asyncio. One request at a time."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 5,
        ca_file: str | Path | None = None,
    ) -> None:
        """`url` is `ws://`, `wss://`, `http://` or `https://`; `attempts` is how often a request is
        tried where the server is busy or restarting; `ca_file` has the certificates, in PEM, of who
        signed the server's, where the system does not know them.

        Raises `ConnectionFailed` where that file has none, or the address is without TLS.
        """
        self._url, self._attempts = socket_url(url), _check_attempts(attempts)
        self._options = connect_options(self._url, api_key, ca_file)
        self.words: list[SpokenWord] = []
        """When each word of the last text is spoken, as far as it is known, if it was asked for
        with `timestamps=True`. In a stream those of a sentence arrive behind its audio."""
        self._socket: AsyncConnection | None = None
        self._turn: _Turn | None = None

    async def __aenter__(self) -> AsyncTTSClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. A request that is under way fails; another one connects again."""
        if self._turn is not None:
            self._turn = None
            await self._drop()
            return
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def speak(self, text: str, **options: Any) -> bytes:
        """The whole audio: a WAV file unless `format` says otherwise. See `TTSClient.speak`."""
        request = _speech_request(options, stream=False, text=text)
        async with aclosing(self._hear(request)) as audio:
            return b"".join([data async for data in audio])

    def stream(self, text: str, **options: Any) -> AsyncGenerator[bytes, None]:
        """The audio as it is made: bare 16-bit PCM unless `format` says otherwise.

        Closing it before its end (`contextlib.aclosing`) interrupts the server at once.
        """
        return self._hear(_speech_request(options, stream=True, text=text))

    async def speak_dialogue(self, turns: Sequence[Turn], **options: Any) -> bytes:
        """The whole audio of what several voices say. See `TTSClient.speak_dialogue`."""
        request = _speech_request(options, stream=False, turns=list(turns))
        async with aclosing(self._hear(request)) as audio:
            return b"".join([data async for data in audio])

    def stream_dialogue(self, turns: Sequence[Turn], **options: Any) -> AsyncGenerator[bytes, None]:
        """The same as it is made, as `stream` has it."""
        return self._hear(_speech_request(options, stream=True, turns=list(turns)))

    async def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        body: dict[str, Any]
        async with aclosing(self._hear({"command": "info"})) as bodies:
            (body,) = [body async for body in bodies]
            return body

    def session(self, *, reconnect: bool = False, **settings: Any) -> SpeechSession:
        """A speech session of its own connection: `async with client.session() as speech`.

        `settings` are `voice`, `format` (`pcm`, `mulaw`, `alaw`, `opus`), `sample_rate`, `seed`,
        `temperature`, `top_k`, `words`, `max_ahead_ms`. With `reconnect` another connection follows
        one that breaks, after up to `attempts` tries. See `SpeechSession`.
        """
        attempts = self._attempts if reconnect else 0
        return _session(self._url, self._options, settings, attempts)

    def _hear(self, request: dict[str, Any]) -> AsyncGenerator[Any, None]:
        turn = _Turn()
        hearing = self._hear_in_turn(request, turn)
        turn.is_of(hearing)
        return hearing

    async def _hear_in_turn(
        self, request: dict[str, Any], turn: _Turn
    ) -> AsyncGenerator[Any, None]:
        before, finished = self._turn, False
        if before is not None and not before.is_abandoned:
            raise RuntimeError(_ONE_AT_A_TIME)
        self._turn = turn
        self.words = []
        try:
            if before is not None:
                await self._drop()
            with closing(_converse(self._url, request, self._attempts)) as talk:
                step = next(talk)
                while True:
                    if isinstance(step, _Heard):
                        yield step.value
                    if self._turn is not turn:
                        raise ConnectionFailed(_CLOSED)
                    try:
                        answer = None if isinstance(step, _Heard) else await self._do(step)
                    except _IO_ERRORS as error:
                        if self._turn is not turn:
                            raise ConnectionFailed(_CLOSED) from error
                        await self._drop()
                        step = talk.throw(error)
                    else:
                        step = talk.send(answer)
        except StopIteration:
            finished = True
        except RequestFailed:
            finished = True
            raise
        finally:
            if self._turn in (turn, None):
                self._turn = None
                # What is left of a reply must not answer the next request.
                if not finished:
                    await self._drop()

    async def _drop(self) -> None:
        """Disconnect without the closing handshake, whose answer lies behind unheard audio."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()
            await socket.wait_closed()

    async def _do(self, step: _Connect | _Send | _Receive | _Wait | _Told) -> Any:
        if isinstance(step, _Told):
            self.words += step.words
            return None
        if isinstance(step, _Wait):
            await self._drop()
            return await asyncio.sleep(step.seconds)
        if isinstance(step, _Receive):
            assert self._socket is not None
            return await self._socket.recv()
        if isinstance(step, _Send):
            assert self._socket is not None
            return await self._socket.send(step.message)
        was_open = self._socket is not None
        if self._socket is None:
            self._socket = await connect_async(self._url, **self._options)
        return was_open
