"""`tts-provider say --stream -`: a text is spoken while somebody still writes it. One that is too
long for a request goes the same way.

The speech session runs in a thread of its own, so that text goes on while a player takes its time;
reading blocks, so it has another one.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import queue
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tts_provider.client import SpeechSession, SpokenWord
from tts_provider.errors import InvalidRequest, TTSError
from tts_provider.speech.reading import Reader, ReadingOptions

_PIECE_BYTES = 4096
_PIECE_CHARACTERS = 1000

_Put = Callable[[bytes], None]
_Pieces = asyncio.Queue["str | None"]


def speak_live(
    source: int, session: SpeechSession, *, by_line: bool = False, ssml: bool = False
) -> Generator[bytes, None, None]:
    """Yield 16-bit PCM at 24 kHz of what arrives at the file descriptor `source`, as it arrives.

    `by_line` speaks each line at once, as somebody who types expects.
    Raises `TTSClientError`, and `TTSError` where no text comes.
    """

    async def speak(speech: SpeechSession, put: _Put) -> None:
        pieces, loop = _Pieces(), asyncio.get_running_loop()
        # Nothing interrupts a read, so this thread must not keep the process from ending.
        threading.Thread(target=_read, args=(source, loop, pieces), daemon=True).start()
        await _speak(speech, pieces, _Ahead(speech, ssml), put, by_line=by_line)

    return _hear(session, speak)


@dataclass
class WrittenText:
    """A text of any length, as one turn of a session: what of it was spoken, while it is."""

    text: str
    session: SpeechSession
    ssml: bool = False
    share: float = 0.0
    """How much of the text, from 0 to 1."""
    words: list[SpokenWord] = field(default_factory=list)
    """All of them, behind the audio, in a session with words."""

    def speak(self) -> Generator[bytes, None, None]:
        """Yield 16-bit PCM at 24 kHz as it comes. Raises `TTSClientError`."""
        return _hear(self.session, self._speak)

    async def _speak(self, speech: SpeechSession, put: _Put) -> None:
        pieces, ahead = _Pieces(), _Ahead(speech, self.ssml)
        count = ahead.piece_characters
        for at in range(0, len(self.text), count):
            pieces.put_nowait(self.text[at : at + count])
        pieces.put_nowait(None)

        def hear(audio: bytes) -> None:
            self.share = ahead.appended / len(self.text) * ahead.spoken / max(ahead.read, 1)
            put(audio)

        await _speak(speech, pieces, ahead, hear)
        self.words = speech.words


def _hear(
    session: SpeechSession, speak: Callable[[SpeechSession, _Put], Coroutine[Any, Any, None]]
) -> Generator[bytes, None, None]:
    heard: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        try:
            async with session as speech:
                await speak(speech, heard.put)
        except Exception as error:  # noqa: BLE001 - raised where the audio is taken
            heard.put(error)
        else:
            heard.put(None)

    with closing(loop), ThreadPoolExecutor(1, thread_name_prefix="speech-session") as thread:
        speaking = loop.create_task(run())
        thread.submit(loop.run_until_complete, asyncio.wait({speaking}))
        try:
            while (item := heard.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            if not speaking.done():
                loop.call_soon_threadsafe(speaking.cancel)


class _Ahead:
    """How much of what was appended is not spoken yet, as the server counts it: what a text leaves
    unsaid, a listing or a link, waits for nobody."""

    def __init__(self, speech: SpeechSession, ssml: bool) -> None:
        self._speech = speech
        self._limit = int(speech.info["limits"]["max_text_characters"])
        self._reader: Reader | None = Reader(ReadingOptions(normalize=False, ssml=ssml))
        self._segments = 0
        self.appended = 0
        """Characters, and of those that are to be spoken how many were read and heard:"""
        self.read = self.spoken = 0

    @property
    def piece_characters(self) -> int:
        """So many at a time leave room for sentences that wait for their end."""
        return min(_PIECE_CHARACTERS, max(self._limit // 8, 1))

    def append(self, text: str) -> None:
        self.appended += len(text)
        try:
            passages = [] if self._reader is None else self._reader.push(text)
        except InvalidRequest:  # the server says so too
            passages, self._reader = [], None
        self.read += sum(len(passage.text) for passage in passages)

    def hear(self) -> None:
        """Some audio has come, and perhaps the end of a segment."""
        segments = self._speech.segments
        self.spoken += sum(len(each.text) for each in segments[self._segments :])
        self._segments = len(segments)

    def has_room(self, text: str) -> bool:
        """Whether the server takes this too."""
        waiting = 0 if self._reader is None else self._reader.characters
        unspoken = self.read - self.spoken
        return not unspoken or unspoken + waiting + len(text) <= self._limit


async def _speak(
    speech: SpeechSession,
    pieces: _Pieces,
    ahead: _Ahead,
    put: _Put,
    *,
    by_line: bool = False,
) -> None:
    text = await pieces.get()
    while text is not None and not text.strip():  # no turn begins with nothing to say
        more = await pieces.get()
        text = None if more is None else text + more
    if text is None:
        raise TTSError("No text provided")
    speech.append(text)
    progress = asyncio.Event()
    feeding = asyncio.create_task(_feed(speech, text, pieces, ahead, by_line, progress))
    try:
        async for audio in speech:
            ahead.hear()
            put(audio)
            progress.set()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(
    speech: SpeechSession,
    text: str | None,
    pieces: _Pieces,
    ahead: _Ahead,
    by_line: bool,
    progress: asyncio.Event,
) -> None:
    """Append what comes, as soon as the server has room for it; `text` is appended already."""
    has_words = False
    while text is not None:
        ahead.append(text)
        has_words = has_words or bool(text.strip())
        if by_line and has_words and text.endswith("\n"):
            speech.flush()
            has_words = False
        text = await pieces.get()
        if text is not None:
            while not ahead.has_room(text):
                progress.clear()
                await progress.wait()
            speech.append(text)
    speech.end()


def _read(source: int, loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[str | None]) -> None:
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    try:
        while data := os.read(source, _PIECE_BYTES):
            loop.call_soon_threadsafe(pieces.put_nowait, decode(data))
        # Half a character at the end is told as one that cannot be read.
        loop.call_soon_threadsafe(pieces.put_nowait, decode(b"", True))
        loop.call_soon_threadsafe(pieces.put_nowait, None)
    except RuntimeError:
        pass  # nobody listens any more: the loop is closed
