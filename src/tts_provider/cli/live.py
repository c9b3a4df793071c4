"""`tts-provider say --stream -`: a text is spoken while somebody still writes it.

The speech session runs in a thread of its own, so that text goes on while a player takes its time;
reading blocks, so it has another one.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tts_provider.client import SpeechSession
from tts_provider.errors import TTSError

_PIECE_BYTES = 4096
# Half of what a server takes before it is spoken.
_AHEAD_CHARACTERS = 10_000


def speak_live(
    source: int, session: SpeechSession, *, by_line: bool = False
) -> Generator[bytes, None, None]:
    """Yield 16-bit PCM at 24 kHz of what arrives at the file descriptor `source`, as it arrives.

    `by_line` speaks each line at once, as somebody who types expects.
    Raises `TTSClientError`, and `TTSError` where no text comes.
    """
    heard: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()

    async def speak() -> None:
        try:
            async with session as speech:
                await _speak(speech, source, by_line, heard.put)
        except Exception as error:  # noqa: BLE001 - raised where the audio is taken
            heard.put(error)
        else:
            heard.put(None)

    with closing(loop), ThreadPoolExecutor(1, thread_name_prefix="speech-session") as thread:
        speaking = loop.create_task(speak())
        thread.submit(loop.run_until_complete, asyncio.wait({speaking}))
        try:
            while (item := heard.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            if not speaking.done():
                loop.call_soon_threadsafe(speaking.cancel)


async def _speak(
    speech: SpeechSession, source: int, by_line: bool, put: Callable[[bytes], None]
) -> None:
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    # Nothing interrupts a read, so this thread must not keep the process from ending.
    threading.Thread(target=_read, args=(source, loop, pieces), daemon=True).start()
    text = await pieces.get()
    while text is not None and not text.strip():
        text = await pieces.get()
    if text is None:
        raise TTSError("No text provided")
    speech.append(text)
    progress = asyncio.Event()
    feeding = asyncio.create_task(_feed(speech, text, pieces, by_line, progress))
    try:
        async for audio in speech:
            put(audio)
            progress.set()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(
    speech: SpeechSession,
    text: str | None,
    pieces: asyncio.Queue[str | None],
    by_line: bool,
    progress: asyncio.Event,
) -> None:
    """Append what comes, not too far ahead of what is spoken; `text` is appended already."""
    appended, has_words = 0, False
    while text is not None:
        appended += _letters(text)
        has_words = has_words or bool(text.strip())
        if by_line and has_words and text.endswith("\n"):
            speech.flush()
            has_words = False
        while (
            appended - sum(_letters(spoken.text) for spoken in speech.segments) > _AHEAD_CHARACTERS
        ):
            progress.clear()
            await progress.wait()
        text = await pieces.get()
        if text is not None:
            speech.append(text)
    speech.end()


def _letters(text: str) -> int:
    """White space is not counted: segments have lost some of it."""
    return len("".join(text.split()))


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
