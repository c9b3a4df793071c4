"""Books of strangers are read in a process of their own, one for each, which the system bounds
(`read_child`), whose time is bounded here, and which is killed where nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from asyncio.subprocess import Process
from typing import BinaryIO

from tts_provider.audio.decode.bounded import ANSWER, Answer
from tts_provider.audio.decode.decode_process import end_child, start_child
from tts_provider.errors import EngineFailed, InvalidRequest
from tts_provider.jobs.book import Book, book_from_json
from tts_provider.jobs.read.limits import damaged
from tts_provider.jobs.read.read import BookFormat
from tts_provider.jobs.read.read_child import TOO_MUCH_CPU, TOO_MUCH_MEMORY

log = logging.getLogger(__name__)

CHILD = "tts_provider.jobs.read.read_child"
WALL_S = 180.0
_MOST_BYTES = 96 * 1024 * 1024  # of an answer: a text in JSON, and its cover


async def read_book_apart(
    file: BinaryIO, book_format: BookFormat | None = None, name: str = "the file"
) -> Book:
    """What `read_book` gives, of a file of the disk. Raises what it raises, `InvalidRequest` with
    the code `book_too_costly` where reading took more than it may, and `EngineFailed` where no
    process can be started. Cancelled, it ends the process."""
    file.seek(0)
    try:
        process = await start_child(CHILD, book_format or "", name[:200], file=file)
    except OSError as error:
        log.error("no process can be started to read a book: %s", error)
        raise EngineFailed("books cannot be read now", code="no_decoder") from None
    try:
        told = await asyncio.wait_for(_read_answer(process), WALL_S)
    except asyncio.TimeoutError:
        raise _too_costly(f"the book took more than {WALL_S:g} s to read") from None
    finally:
        await end_child(process)
    if told is None:
        raise _ended(process)
    return _book(*told)


async def _read_answer(process: Process) -> tuple[Answer, bytes] | None:
    """None where it ended without one."""
    assert process.stdout is not None
    try:
        kind, answer_bytes = ANSWER.unpack(await process.stdout.readexactly(ANSWER.size))
        if answer_bytes > _MOST_BYTES:
            raise _too_costly("the book's text is too long")
        return Answer(kind), await process.stdout.readexactly(answer_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        await process.wait()
        return None
    except ValueError as error:
        log.warning("a process that read a book gave an invalid answer: %s", error)
        raise damaged("book", "its reader failed") from None


def _book(answer: Answer, content: bytes) -> Book:
    if answer is Answer.BOOK:
        try:
            return book_from_json(json.loads(content))
        except (LookupError, TypeError, ValueError) as error:
            log.warning("a process that read a book sent an invalid book: %s", error)
            raise damaged("book", "its reader failed") from None
    if answer is Answer.PROBLEM:
        code, message = json.loads(content)
        raise InvalidRequest(message, code=code)
    log.error("a book could not be read:\n%s", content.decode(errors="replace"))
    raise damaged("book", "its reader failed; the log says how")


def _ended(process: Process) -> InvalidRequest:
    """Why it ended without an answer."""
    code = process.returncode or 0
    if sys.platform != "win32" and -code in (signal.SIGXCPU, signal.SIGKILL):
        return _too_costly(TOO_MUCH_CPU)
    log.warning("a process that read a book ended with exit code %s", code)
    return _too_costly(TOO_MUCH_MEMORY) if code > 0 else damaged("book", "its reader crashed")


def _too_costly(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="book_too_costly")
