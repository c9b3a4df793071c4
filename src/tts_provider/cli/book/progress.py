"""What a person, or a program, sees while a book is made."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tts_provider.jobs.book import Book, Chapter
from tts_provider.jobs.plan import Plan, expected_s
from tts_provider.jobs.timeline import Timeline
from tts_provider.jobs.work import PartDone
from tts_provider.speech.engine import SAMPLE_RATE

_MOST_NAMED = 3


class Report:
    """A bar on a terminal, a JSON object a line, or nothing."""

    def __init__(self, plan: Plan, *, quiet: bool, as_json: bool) -> None:
        self._plan = plan
        self._as_json = as_json
        self._quiet = quiet
        self._characters = self._had_characters = 0
        self._audio_s = 0.0
        self._began = time.monotonic()
        self._open = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> Report:
        if not (self._quiet or self._as_json) and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[left]}"),
            )
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar = self._open.enter_context(bar)
            total = max(self._plan.characters, 1)
            self._task = self._bar.add_task("", total=total, speed="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def made(self, done: PartDone) -> None:
        """A part is there."""
        self._characters += done.part.characters
        if done.was_there:
            self._had_characters += done.part.characters
        else:
            self._audio_s += done.audio_s
        chapter = self._plan.book.chapters[done.part.chapter]
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self._characters,
                description=f"{done.part.chapter + 1}. {chapter.title[:30]}",
                speed=f"{self._speed():.0f}×" if self._audio_s else "",
                left="" if (left_s := self._left_s()) is None else f"{duration(left_s)} left",
            )
        if self._as_json and not done.was_there:
            self._tell(
                "part",
                chapter=done.part.chapter + 1,
                share=round(self._share(), 4),
                speed=round(self._speed(), 1),
                left_s=self._left_s(),
            )

    def writing(self, path: Path, samples: int) -> None:
        """From now on the file is put together."""
        if self._bar is not None:
            description = f"writing {path.name}"
            self._bar.reset(self._task, total=max(samples, 1), description=description)
            self._bar.update(self._task, speed="", left="")
        if self._as_json:
            self._tell("writing", file=str(path))

    def wrote(self, samples: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, samples)

    def finish(self, timeline: Timeline, files: Sequence[Path]) -> None:
        took_s = time.monotonic() - self._began
        audio_s = timeline.samples / SAMPLE_RATE
        if self._as_json:
            self._tell(
                "done",
                files=[str(path) for path in files],
                audio_s=round(audio_s, 3),
                took_s=round(took_s, 1),
                chapters=[
                    {
                        "title": chapter.title,
                        "start_s": round(chapter.start / SAMPLE_RATE, 3),
                        "end_s": round(chapter.end / SAMPLE_RATE, 3),
                    }
                    for chapter in timeline.chapters
                ],
            )
        elif not self._quiet:
            named = ", ".join(map(str, files[:_MOST_NAMED]))
            if len(files) > _MOST_NAMED:
                named += f" and {len(files) - _MOST_NAMED} more"
            print(
                f"{named}: {_count(len(timeline.chapters), 'chapter')}, {duration(audio_s)}, "
                f"made in {duration(took_s)}"
            )

    def _share(self) -> float:
        return self._characters / max(self._plan.characters, 1)

    def _speed(self) -> float:
        """Seconds of speech that are made in one."""
        return self._audio_s / max(time.monotonic() - self._began, 1e-3)

    def _left_s(self) -> int | None:
        made = self._characters - self._had_characters
        if not made:
            return None
        left = self._plan.characters - self._characters
        return round((time.monotonic() - self._began) * left / made)

    def _tell(self, event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}), flush=True)


def print_outline(book: Book, speed: float, *, as_json: bool) -> None:
    """What would be spoken, and what not: `--dry-run`."""
    if as_json:
        print(json.dumps(_outline(book, speed)))
        return
    by = f", by {book.author}" if book.author else ""
    language = f" ({book.language})" if book.language else ""
    print(f"{book.title}{by}{language}")
    digits = len(str(len(book.chapters)))
    for number, chapter in enumerate(book.chapters, 1):
        words, lasts = f"{chapter.words:,} words", _expected(chapter, speed)
        print(f"  {number:{digits}}  {chapter.title[:50]:50} {words:>13}  {lasts}")
    total_s = expected_s(book.characters, speed)
    chapters = _count(len(book.chapters), "chapter")
    print(f"{chapters}, {book.words:,} words, about {duration(total_s)}")
    for one in book.left_out:
        words = f" ({one.words:,} words)" if one.words else ""
        print(f"left out: {one.what}: {one.count:,}{words}")


def _outline(book: Book, speed: float) -> dict[str, Any]:
    return {
        "title": book.title,
        "author": book.author,
        "language": book.language,
        "words": book.words,
        "expected_s": expected_s(book.characters, speed),
        "chapters": [
            {
                "title": chapter.title,
                "words": chapter.words,
                "expected_s": expected_s(chapter.characters, speed),
            }
            for chapter in book.chapters
        ],
        "left_out": [
            {"what": one.what, "count": one.count, "words": one.words} for one in book.left_out
        ],
    }


def _expected(chapter: Chapter, speed: float) -> str:
    return duration(expected_s(chapter.characters, speed))


def duration(seconds: float) -> str:
    """`3 h 20 min`, `4 min 05 s`, `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole // 60 % 60:02} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole} s"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
