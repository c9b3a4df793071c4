"""The process that reads one book of a stranger, and ends: `python -m` this module FORMAT NAME.

Its standard input is the file itself; on its standard output goes an `ANSWER` and what belongs to
it. Before it reads the file, the operating system is told how much it may take.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback

from tts_provider.audio.decode.bounded import ANSWER, Answer, limit_resources
from tts_provider.errors import InvalidRequest
from tts_provider.jobs.read.read import BOOK_FORMATS, BookFormat, read_book

MEMORY_MIB = 320
CPU_S = 120
"""A PDF of a thousand pages takes half a minute."""

TOO_MUCH_CPU = f"the book took more than {CPU_S} s to read"
TOO_MUCH_MEMORY = f"the book took more than {MEMORY_MIB} MiB to read"
_LONGEST_TRACE = 8192


def main(book_format: str, name: str) -> None:
    # Both go to all of a terminal's or a service's processes; who started us ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    limit_resources(MEMORY_MIB, CPU_S)
    answer, content = _answer(book_format, name)
    sys.stdout.buffer.write(ANSWER.pack(answer, len(content)) + content)
    sys.stdout.buffer.flush()


def _answer(book_format: str, name: str) -> tuple[Answer, bytes]:
    known: BookFormat | None = book_format if book_format in BOOK_FORMATS else None
    try:
        book = read_book(sys.stdin.buffer, known, name)
        return Answer.BOOK, json.dumps(book.to_json()).encode("ascii")
    except InvalidRequest as problem:
        return Answer.PROBLEM, json.dumps([problem.code, problem.message]).encode()
    except (MemoryError, RecursionError):
        return Answer.PROBLEM, json.dumps(["book_too_costly", TOO_MUCH_MEMORY]).encode()
    except Exception:  # noqa: BLE001 - what it is, the server's log says
        return Answer.FAULT, traceback.format_exc().encode()[-_LONGEST_TRACE:]


if __name__ == "__main__":
    main(*sys.argv[1:])
