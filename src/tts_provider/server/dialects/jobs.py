"""Jobs over HTTP: clients submit a text or a book, and fetch the audio when it is finished."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.config import Limits
from tts_provider.errors import EngineFailed, InvalidRequest, TTSError, WireError
from tts_provider.jobs.book import Book
from tts_provider.jobs.read.read import format_of
from tts_provider.jobs.read.read_process import read_book_apart
from tts_provider.jobs.store import Job, State
from tts_provider.jobs.write.audio import AUDIO_KINDS, MEDIA_TYPES
from tts_provider.keys.caller import Caller, require
from tts_provider.keys.counts import Usage
from tts_provider.server.dialects.fields import Fields, read_object
from tts_provider.server.http.answers import arriving, media_type, read_body, while_connected
from tts_provider.server.http.form import MULTIPART, read_form
from tts_provider.server.http.openapi import errors
from tts_provider.server.service.job_progress import ChapterProgress, JobProgress, Watch
from tts_provider.server.service.jobs import JobWorker, Order
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Voice
from tts_provider.speech.structure.blocks import NOT_SPEECH
from tts_provider.waiting.line import Line, try_later

log = logging.getLogger(__name__)

PATH = "/v1/audio/jobs"

_UPLOADS = 2
_RETRY_AFTER_MS = 5000
_MAX_TEXT_BYTES = 256 * 1024  # of a form's fields besides its file
_MAX_OTHER_BYTES = 64 * 1024
_MAX_SEED = 2**53 - 1
_LONGEST_NAME = 300
_FIELDS = (
    *("input", "file", "title", "author", "voice", "speaker", "response_format"),
    *("speed", "seed", "temperature", "top_k", "read_aloud", "pronunciations", "model"),
)
_PROPERTIES: dict[str, Any] = {
    "title": {"type": "string", "description": "By default the file's own."},
    "author": {"type": "string"},
    "voice": {"type": "string", "description": "A voice id, or one of OpenAI's names."},
    "speaker": {"type": "integer", "minimum": 0, "description": "Instead of a voice."},
    "response_format": {"type": "string", "enum": list(AUDIO_KINDS), "default": "mp3"},
    "speed": {"type": "number", "minimum": SLOWEST, "maximum": FASTEST, "default": 1},
    "seed": {"type": "integer", "minimum": 0},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_k": {"type": "integer", "minimum": 1, "maximum": 2048},
    "read_aloud": {"type": "array", "items": {"type": "string", "enum": list(NOT_SPEECH)}},
    "pronunciations": {"type": "object", "additionalProperties": {"type": "string"}},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "properties": {
                        "input": {"type": "string", "description": "Markdown, or plain text."},
                        **_PROPERTIES,
                    },
                }
            },
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "EPUB, DOCX, PDF, HTML, Markdown, text or subtitles.",
                        },
                        **_PROPERTIES,
                    },
                }
            },
        },
    }
}


class JobError(BaseModel):
    code: str
    message: str


class JobChapter(BaseModel):
    number: int
    title: str
    state: Literal["queued", "working", "done"]
    start_ms: int | None = Field(description="Null until the chapters before it are done.")
    duration_ms: int | None = Field(description="Null until it is done.")


class JobFacts(BaseModel):
    id: str
    state: State
    title: str
    voice: str
    format: str
    created: datetime
    characters: int
    share: float = Field(ge=0, le=1, description="Of its text that is spoken.")
    time_left_s: float | None = Field(description="Null where nothing is known of it yet.")
    duration_ms: int | None = Field(description="Of the finished audio.")
    error: JobError | None


class JobDetails(JobFacts):
    chapters: list[JobChapter]


class JobList(BaseModel):
    jobs: list[JobFacts]


class Removed(BaseModel):
    id: str
    deleted: bool = True


def create_router(service: SpeechService, worker: JobWorker) -> APIRouter:
    router = APIRouter()
    limits, store = service.limits, worker.store
    full = f"{_UPLOADS} jobs are handed in already, the limit; try again later"
    uploads = Line(_UPLOADS, try_later(full, _RETRY_AFTER_MS), waiting=4 * _UPLOADS)
    watch = Watch(store)

    def add(owner: str | None, book: Book, fields: Mapping[str, Any]) -> Job:
        """Raises `WireError`."""
        most, most_own = limits.max_jobs, limits.max_jobs_per_key
        try:
            return store.add(owner, book, fields, most=most, most_own=most_own)
        except WireError:
            raise
        except TTSError as problem:  # the message has the path, which only the operator may know
            log.error("a job cannot be stored: %s", problem)
            message = "jobs cannot be kept here now; the server's log says why"
            raise EngineFailed(message, code="jobs_unavailable") from None

    async def find(request: Request, job_id: str) -> Job:
        """Raises `InvalidRequest` if the caller has no such job."""
        caller = require(request.scope, "jobs")
        job = await asyncio.to_thread(store.get, job_id)
        if job is None or not _may_see(caller, job):
            raise InvalidRequest(
                f"there is no job {job_id[:64]!r}",
                code="unknown_job",
                param="job_id",
                http_status=404,
            )
        return job

    @router.post(
        PATH,
        status_code=202,
        responses=errors(400, 408, 413, 415, 429, 500, 503),
        response_model=JobDetails,
        openapi_extra=_BODY,
    )
    async def submit_job(request: Request) -> Response:
        """A text or a book, to be spoken when no listener needs the engine. `Location` says where
        its state is."""
        caller = require(request.scope, "jobs")
        async with uploads.place():
            fields, file = await _read_request(request, limits)
            voice = service.find_voice(*_voice(fields))
            order = _order(fields, voice, service.defaults.speed)
            book = _named(await while_connected(request, _read_book(fields, file)), fields)
            # Count all characters now, so that the day's limit holds whenever the job is spoken.
            counts, place = service.allowances.counts, service.place_of(voice)
            service.allowances.check_characters(caller, book.characters)
            counts.add(place, Usage(requests=1, characters=book.characters))
            try:
                job = await asyncio.to_thread(add, caller.name, book, asdict(order))
            except BaseException:
                counts.add(place, Usage(failures=1, characters=-book.characters))
                raise
        worker.wake()
        facts = _details(job, await watch.progress(job))
        return JSONResponse(
            facts.model_dump(mode="json"), 202, headers={"Location": f"{PATH}/{job.id}"}
        )

    @router.get(PATH, responses=errors(500))
    async def list_jobs(request: Request) -> JobList:
        """Whoever asks sees its own, the oldest first; an administrator sees all."""
        caller = require(request.scope, "jobs")
        jobs = [job for job in await asyncio.to_thread(store.all) if _may_see(caller, job)]
        return JobList(jobs=[_facts(job, await watch.progress(job)) for job in jobs])

    @router.get(PATH + "/{job_id}", responses=errors(404, 500))
    async def get_job(request: Request, job_id: str) -> JobDetails:
        """Its state, how far it is, and its chapters."""
        job = await find(request, job_id)
        return _details(job, await watch.progress(job))

    @router.get(
        PATH + "/{job_id}/events",
        responses=errors(404, 500),
        response_class=StreamingResponse,
    )
    async def job_events(
        request: Request,
        job_id: str,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Server-sent events: `job` whenever something of it changes, until it is over. Each has
        the whole state, so who comes back with `Last-Event-ID` misses nothing."""
        job = await find(request, job_id)
        return StreamingResponse(
            _events(watch, job, last_event_id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get(
        PATH + "/{job_id}/audio", responses=errors(404, 409, 500), response_class=FileResponse
    )
    async def job_audio(request: Request, job_id: str) -> Response:
        """The finished file; `Range` is obeyed."""
        job = await find(request, job_id)
        kind = Order.of(job).format
        if job.state != "done":
            raise _not_made(f"the job is {job.state}; its audio is there when it is done")
        return FileResponse(
            job.folder / f"audio.{kind}",
            media_type=MEDIA_TYPES[kind],
            filename=f"{job.title[:100]}.{kind}",
            content_disposition_type="inline",
        )

    @router.get(
        PATH + "/{job_id}/chapters/{number}/audio",
        responses=errors(400, 404, 409, 500),
        response_class=FileResponse,
    )
    async def chapter_audio(request: Request, job_id: str, number: int) -> Response:
        """One chapter, counted from 1, as soon as it is spoken."""
        job = await find(request, job_id)
        progress = await watch.progress(job)
        if not 1 <= number <= len(progress.chapters):
            raise InvalidRequest(
                f"there is no chapter {number}; the job has 1 to {len(progress.chapters)}",
                code="unknown_chapter",
                param="number",
                http_status=404,
            )
        if job.is_over:
            raise _not_made(f"the job is {job.state}: what it has is at /audio")
        if progress.chapters[number - 1].state != "done":
            raise _not_made(f"chapter {number} is not spoken yet")
        kind = Order.of(job).format
        path = await worker.chapter(job, number - 1)
        return FileResponse(path, media_type=MEDIA_TYPES[kind], content_disposition_type="inline")

    @router.delete(PATH + "/{job_id}", responses=errors(404, 500))
    async def remove_job(request: Request, job_id: str) -> Removed:
        """Ends it where it is not over, and removes all that was made."""
        job = await find(request, job_id)
        await worker.cancel(job.id)
        await asyncio.to_thread(store.remove, job.id)
        return Removed(id=job.id)

    return router


def _may_see(caller: Caller, job: Job) -> bool:
    """Jobs that an administrator submitted belong to nobody else."""
    return caller.is_administrator or (job.owner is not None and job.owner == caller.name)


async def _read_request(request: Request, limits: Limits) -> tuple[Fields, _File | None]:
    """Raises `InvalidRequest`."""
    if media_type(request) != MULTIPART:
        reading = read_body(request, limits, most_bytes=limits.max_job_upload_bytes)
        return Fields(read_object(await reading)), None
    async with aclosing(request.stream()) as pieces:
        form = await arriving(
            read_form(
                request.headers.get("content-type", ""),
                pieces,
                max_bytes=limits.max_job_upload_bytes + _MAX_OTHER_BYTES,
                max_text_bytes=_MAX_TEXT_BYTES,
            ),
            "the book",
            limits.upload_timeout_s,
        )
    if "file" not in form.files:
        raise InvalidRequest("file must be a file of the form", param="file")
    told: dict[str, Any] = {name: text for name, text in form.texts.items() if text.strip()}
    for name in ("pronunciations", "read_aloud"):  # which no form has types for
        if name in told:
            told[name] = _json(name, told[name])
    return Fields(told, is_text=True), (form.files["file"], form.names.get("file", ""))


_File = tuple[bytearray, str]
"""The content of the book, and its name."""


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be JSON in a form", param=name) from None


def _voice(fields: Fields) -> tuple[str | None, int | None]:
    """Raises `InvalidRequest`."""
    fields.check_names(_FIELDS)
    return fields.string("voice"), fields.integer("speaker", 0, None, may_be_text=True)


def _order(fields: Fields, voice: Voice, usual_speed: float) -> Order:
    """Raises `InvalidRequest`."""
    aloud = fields.choices("read_aloud", NOT_SPEECH)
    order = Order(
        voice=voice.id,
        format=fields.choice("response_format", AUDIO_KINDS) or "mp3",
        speed=fields.number("speed", SLOWEST, FASTEST, may_be_text=True) or usual_speed,
        seed=fields.integer("seed", 0, _MAX_SEED, may_be_text=True) or Order.seed,
        temperature=fields.number("temperature", 0, 2, may_be_text=True),
        top_k=fields.integer("top_k", 1, 2048, may_be_text=True),
        aloud=tuple(sorted(aloud or ())),
        pronunciations=fields.strings("pronunciations"),
    )
    order.reading()  # raises if its pronunciations are invalid
    return order


async def _read_book(fields: Fields, file: _File | None) -> Book:
    """Raises `InvalidRequest`."""
    if file is not None:
        data, name = file
        return await _read_file(bytes(data), format_of(name), name or "the file")
    text = fields.string("input")
    if text is None or not text.strip():
        raise InvalidRequest("input must be a text", code="no_text", param="input")
    title = fields.string("title")
    return await _read_file(text.encode("utf-8", "replace"), "md", title or "text")


async def _read_file(data: bytes, kind: Any, name: str) -> Book:
    file: BinaryIO
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(file.write, data)
        file.flush()
        return await read_book_apart(file, kind, name)


def _named(book: Book, fields: Fields) -> Book:
    title, author = fields.string("title"), fields.string("author")
    return replace(
        book,
        title=(title or "").strip()[:_LONGEST_NAME] or book.title,
        author=(author or "").strip()[:_LONGEST_NAME] or book.author,
    )


def _not_made(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="job_not_done", http_status=409)


def _facts(job: Job, progress: JobProgress) -> JobFacts:
    order = Order.of(job)
    return JobFacts(
        id=job.id,
        state=job.state,
        title=job.title,
        voice=order.voice,
        format=order.format,
        created=datetime.fromtimestamp(job.created, timezone.utc),
        characters=progress.characters,
        share=progress.share,
        time_left_s=progress.time_left_s,
        duration_ms=progress.duration_ms,
        error=None if job.code is None else JobError(code=job.code, message=job.message or ""),
    )


def _details(job: Job, progress: JobProgress) -> JobDetails:
    chapters = [_chapter(number, one) for number, one in enumerate(progress.chapters, 1)]
    return JobDetails(**_facts(job, progress).model_dump(), chapters=chapters)


def _chapter(number: int, chapter: ChapterProgress) -> JobChapter:
    return JobChapter(number=number, **asdict(chapter))


async def _events(watch: Watch, job: Job, known: str | None) -> AsyncIterator[bytes]:
    async with aclosing(watch.follow(job)) as states:
        async for now, progress in states:
            told = _details(now, progress).model_dump_json()
            name = f"{now.state}-{progress.share:.4f}"
            if name != known:
                yield f"id: {name}\nevent: job\ndata: {told}\n\n".encode()
            known = name
    yield b"event: end\ndata: {}\n\n"
