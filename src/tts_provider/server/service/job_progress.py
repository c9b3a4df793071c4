"""The progress of jobs, read from their parts on the disk, whichever server makes them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tts_provider.errors import TTSError
from tts_provider.jobs.book import book_from_json
from tts_provider.jobs.parts import PartFolder, write_file
from tts_provider.jobs.plan import Plan, plan_book
from tts_provider.jobs.store import Job, JobStore
from tts_provider.jobs.timeline import Timeline, part_samples
from tts_provider.speech.engine import to_ms

_LOOKED_S = 0.5
_MOST_KNOWN = 64
"""Jobs whose parts' lengths are remembered."""
_MADE = "made.json"


@dataclass(frozen=True)
class ChapterProgress:
    title: str
    state: Literal["queued", "working", "done"]
    start_ms: int | None = None
    """On the job's timeline; None until the chapters before it are done."""
    duration_ms: int | None = None


@dataclass(frozen=True)
class JobProgress:
    characters: int
    share: float
    """The share of its characters that is spoken."""
    chapters: tuple[ChapterProgress, ...]
    time_left_s: float | None = None
    duration_ms: int | None = None
    """Of the finished audio."""


@dataclass
class _Known:
    samples: dict[int, int] = field(default_factory=dict)
    """Of parts, by their number."""
    begun: tuple[float, float] | None = None
    """When the job was first looked at while a server worked on it, and its share then."""


@lru_cache(maxsize=16)
def read_plan(book: Path) -> Plan:
    """The plan of the book in a file, which never changes. Raises `TTSError` if it is damaged."""
    try:
        return plan_book(book_from_json(json.loads(book.read_bytes())))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise TTSError(f"{book} cannot be read ({error})") from None


def remember(job: Job, timeline: Timeline) -> None:
    """Write down what must be known about a job after its parts are removed. Raises `TTSError`."""
    chapters = [
        ChapterProgress(
            chapter.title, "done", to_ms(chapter.start), to_ms(chapter.end - chapter.start)
        )
        for chapter in timeline.chapters
    ]
    told = {
        "characters": timeline.plan.characters,
        "duration_ms": to_ms(timeline.samples),
        "chapters": [asdict(chapter) for chapter in chapters],
    }
    write_file(job.folder / _MADE, json.dumps(told).encode("ascii"))


class Watch:
    """Observes the jobs of one store."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def progress(self, job: Job) -> JobProgress:
        """Raises `TTSError` if the job's files are damaged."""
        return await asyncio.to_thread(self._progress, job)

    async def follow(self, job: Job) -> AsyncGenerator[tuple[Job, JobProgress], None]:
        """Yield the progress of a job until it is over or removed."""
        now: Job | None = job
        while now is not None:
            yield now, await self.progress(now)
            if now.is_over:
                return
            await asyncio.sleep(_LOOKED_S)
            now = await asyncio.to_thread(self._store.get, job.id)

    def _progress(self, job: Job) -> JobProgress:
        if job.state == "done":
            return _made(job)
        plan = read_plan(job.book_path)
        known = self._of(job)
        folder = PartFolder(job.folder / "parts")
        there = folder.numbers()
        for number in there - known.samples.keys():
            known.samples[number] = part_samples(plan.parts[number], folder.facts(number))
        for number in known.samples.keys() - there:  # they are made anew
            del known.samples[number]
        spoken = sum(plan.parts[number].characters for number in there)
        share = spoken / plan.characters if plan.characters else 0.0
        return JobProgress(
            plan.characters,
            share,
            tuple(_chapters(job, plan, known.samples)),
            _time_left_s(job, known, share),
        )

    def _of(self, job: Job) -> _Known:
        known = self._known.pop(job.id, None) or _Known()
        self._known[job.id] = known
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def _chapters(job: Job, plan: Plan, samples: dict[int, int]) -> list[ChapterProgress]:
    chapters, position = list[ChapterProgress](), 0
    is_known = True
    for number, chapter in enumerate(plan.book.chapters):
        parts = plan.parts_of(number)
        lengths = [samples[part.number] for part in parts if part.number in samples]
        is_done = len(lengths) == len(parts)
        is_begun = job.state == "working" and (bool(lengths) or is_known)
        chapters.append(
            ChapterProgress(
                chapter.title,
                "done" if is_done else "working" if is_begun else "queued",
                to_ms(position) if is_known else None,
                to_ms(sum(lengths)) if is_done else None,
            )
        )
        is_known = is_known and is_done
        position += sum(lengths)
    return chapters


def _time_left_s(job: Job, known: _Known, share: float) -> float | None:
    """The time left at the job's speed since it was first looked at."""
    now = time.monotonic()
    if job.state != "working":
        known.begun = None
        return None
    if known.begun is None:
        known.begun = (now, share)
    since, before = known.begun
    if share <= before or now <= since:
        return None
    return round((1 - share) * (now - since) / (share - before), 1)


def _made(job: Job) -> JobProgress:
    try:
        told: dict[str, Any] = json.loads((job.folder / _MADE).read_bytes())
        chapters = tuple(ChapterProgress(**chapter) for chapter in told["chapters"])
        return JobProgress(told["characters"], 1.0, chapters, 0.0, told["duration_ms"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TTSError(f"{job.folder / _MADE} cannot be read ({error})") from None
