"""Jobs: books and long texts that become files in the background, with the capacity that listeners
leave.

A job borrows a place to speak for one line at a time, and gives it up at once if a listener wants
it; the line is spoken again later. Finished parts are on the disk, so a job continues where it was,
whatever ended the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_provider import __version__
from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.audio.pcm import to_s16
from tts_provider.cpus import available_cpus, give_way
from tts_provider.errors import Draining, NoSpeech, StartupError, TTSError, WireError
from tts_provider.jobs.parts import FolderTaken, PartFolder
from tts_provider.jobs.plan import Plan
from tts_provider.jobs.speaker import Speech, TimedWord
from tts_provider.jobs.store import Job, JobStore
from tts_provider.jobs.timeline import Timeline
from tts_provider.jobs.work import make_parts
from tts_provider.jobs.write.audio import (
    AudioKind,
    OnSound,
    write_audio_file,
    write_chapter_file,
)
from tts_provider.keys.caller import Caller, become
from tts_provider.server.service.job_progress import read_plan, remember
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Manner, Utterance, Voice
from tts_provider.speech.lexicon import read_pronunciations
from tts_provider.speech.pipeline import AudioChunk
from tts_provider.speech.reading import ReadingOptions

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""How many jobs are worked on at once, so that a short one does not wait for a long one."""
_RETRIED_S = 5.0
"""How long to wait before a failure that may pass is retried."""
_ATTEMPTS = 60
_LOOKED_S = 30.0
"""How often to look for other servers' jobs, and to remove old ones."""
_SEED = 1


@dataclass(frozen=True)
class Order:
    """How a job is spoken and encoded, as its row in the database stores it."""

    voice: str
    format: AudioKind
    speed: float = 1.0
    seed: int = _SEED
    temperature: float | None = None
    top_k: int | None = None
    aloud: tuple[str, ...] = ()
    pronunciations: Mapping[str, str] | None = None

    @classmethod
    def of(cls, job: Job) -> Order:
        fields = dict(job.fields)
        return cls(**{**fields, "aloud": tuple(fields.get("aloud", ()))})

    def utterance(self, text: str, voice: Voice) -> Utterance:
        manner = Manner(
            temperature=self.temperature,
            top_k=self.top_k,
            seed=self.seed,
            speed=self.speed,
            word_times=True,
        )
        return Utterance(text, voice, manner)

    def reading(self) -> ReadingOptions:
        """Raises `InvalidRequest`."""
        lexicon = read_pronunciations(dict(self.pronunciations or {}))
        return ReadingOptions(aloud=frozenset(self.aloud), lexicon=lexicon)


class _Speaker:
    """A `jobs.speaker.Speaker`: this server itself."""

    def __init__(self, service: SpeechService, order: Order) -> None:
        """Raises `InvalidRequest` if there is no such voice."""
        self._service, self._order = service, order
        self._voice = service.find_voice(order.voice, None)
        self._reading = order.reading()
        engine = service.engine.of(self._voice)
        told = json.dumps([order.aloud, order.pronunciations], sort_keys=True)
        self.facts = {
            "voice": self._voice.id,
            "engine": engine.name,
            "model": engine.model,
            "precision": engine.precision,
            "version": __version__,
            "speed": f"{order.speed:g}",
            "seed": str(order.seed),
            "sampling": f"{order.temperature} {order.top_k}",
            "reading": hashlib.sha256(told.encode("ascii")).hexdigest(),
        }

    async def speak(self, text: str) -> Speech:
        while True:
            async with self._service.admission.borrow() as wanted:
                speaking = asyncio.create_task(self._speak(text))
                waiting = asyncio.create_task(wanted.wait())
                try:
                    await asyncio.wait((speaking, waiting), return_when=asyncio.FIRST_COMPLETED)
                    if speaking.done():
                        return speaking.result()
                finally:
                    waiting.cancel()
                    speaking.cancel()
                    await asyncio.gather(speaking, waiting, return_exceptions=True)

    async def _speak(self, text: str) -> Speech:
        samples, words = list[bytes](), list[TimedWord]()
        items = self._service.speak_aside(self._order.utterance(text, self._voice), self._reading)
        try:
            async with aclosing(items):
                async for item in items:
                    if isinstance(item, AudioChunk):
                        samples.append(to_s16(item.samples))
                    else:
                        words += [
                            TimedWord(word.start, word.end, word.text_start, word.text_end)
                            for word in item.words
                        ]
        except NoSpeech:
            return Speech(np.zeros(0, np.int16))
        return Speech(np.frombuffer(b"".join(samples), "<i2").astype(np.int16), tuple(words))


class JobWorker:
    """Works on the jobs in the store until it is cancelled."""

    def __init__(
        self, service: SpeechService, store: JobStore, *, kept_s: float, most_bytes: int
    ) -> None:
        self._service, self.store = service, store
        self._kept_s, self._most_bytes = kept_s, most_bytes
        self._signer: ManifestSigner | None = service.signer
        self._woken = asyncio.Event()
        self._is_ended = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._elsewhere: dict[str, float] = {}
        """Jobs that another server was seen to work on, and when."""
        # Compressing a book takes minutes of a core.
        self._threads = ThreadPoolExecutor(
            _AT_ONCE, thread_name_prefix="jobs", initializer=give_way
        )

    def wake(self) -> None:
        """Notify the worker that a job was added."""
        self._woken.set()

    async def cancel(self, job_id: str) -> None:
        """Stop a job. Returns when this server computes nothing of it any more."""
        if (task := self._running.get(job_id)) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def chapter(self, job: Job, chapter: int) -> Path:
        """The file of one chapter, counted from 0, if all its parts are there. Raises
        `TTSError`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, _write_chapter, job, chapter, self._signer, self._check
        )

    def _check(self, _: int) -> None:
        """Called while a file is written: raises `Draining` if the server is stopping."""
        if self._is_ended:
            raise Draining("the server is shutting down")

    async def run(self) -> None:
        try:
            await self._service.admission.wait_open()
            while self._service.admission.is_open:
                self._woken.clear()
                await self._begin_some()
                looking = asyncio.get_running_loop().call_later(_LOOKED_S, self.wake)
                try:
                    await self._woken.wait()
                finally:
                    looking.cancel()
                for job_id in [name for name, task in self._running.items() if task.done()]:
                    del self._running[job_id]
        except WireError:
            return  # the server drains, or has no engine
        finally:
            for task in self._running.values():
                task.cancel()
            self._is_ended = True
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _begin_some(self) -> None:
        await asyncio.to_thread(self.store.sweep, kept_s=self._kept_s, most_bytes=self._most_bytes)
        for job in await asyncio.to_thread(self.store.unfinished):
            if len(self._running) >= _AT_ONCE:
                return
            looked = self._elsewhere.get(job.id, -math.inf)
            if job.id in self._running or time.monotonic() - looked < _LOOKED_S:
                continue
            task = self._running[job.id] = asyncio.create_task(self._work(job))
            task.add_done_callback(lambda _: self.wake())

    async def _work(self, job: Job) -> None:
        become(Caller(job.owner))  # whose usage the speech counts as
        folder = PartFolder(job.folder / "parts")
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._make(job, folder)
                    return
                except Draining:
                    return
                except WireError as problem:
                    if not problem.retryable or attempt == _ATTEMPTS:
                        raise
                    log.warning("job %s waits: %s", job.id, problem)
                    await asyncio.sleep(_RETRIED_S)
        except TTSError as problem:
            code = problem.code if isinstance(problem, WireError) else "job_failed"
            await asyncio.to_thread(
                self.store.change, job.id, "failed", code=code, message=str(problem)
            )
            log.warning("job %s failed: %s", job.id, problem)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("job %s failed unexpectedly", job.id)
            message = "the job failed unexpectedly; the server's log says more"
            await asyncio.to_thread(
                self.store.change, job.id, "failed", code="job_failed", message=message
            )

    async def _make(self, job: Job, folder: PartFolder) -> None:
        """Raises `TTSError`."""
        order = Order.of(job)
        speaker = _Speaker(self._service, order)
        plan = await asyncio.to_thread(read_plan, job.book_path)
        settings = {**speaker.facts, "text": plan.text_digest()}
        if not await asyncio.to_thread(_open, folder, settings):
            self._elsewhere[job.id] = time.monotonic()
            return
        self._elsewhere.pop(job.id, None)
        try:
            if await asyncio.to_thread(self.store.change, job.id, "working") is None:
                return  # it was removed
            at_once = min(available_cpus(), self._service.limits.max_streams)
            parts = make_parts(plan, folder, speaker, at_once)
            async with aclosing(parts):
                async for _ in parts:
                    pass
            loop = asyncio.get_running_loop()
            path = await loop.run_in_executor(
                self._threads, _write, job, plan, folder, order.format, self._signer, self._check
            )
            size_bytes = path.stat().st_size + job.book_path.stat().st_size
            await asyncio.to_thread(self.store.change, job.id, "done", size_bytes=size_bytes)
            await asyncio.to_thread(folder.remove)
            await asyncio.to_thread(shutil.rmtree, job.folder / "chapters", ignore_errors=True)
        finally:
            folder.close()


def _open(folder: PartFolder, settings: Mapping[str, str]) -> bool:
    """Open the job's parts; False if another server works on it. Parts that were made with other
    settings, such as another version of the model, are made again."""
    try:
        folder.open(settings)
    except FolderTaken:
        return False
    except StartupError:
        folder.remove()
        folder.open(settings)
    return True


def _write(
    job: Job,
    plan: Plan,
    folder: PartFolder,
    kind: AudioKind,
    signer: ManifestSigner | None,
    check: OnSound,
) -> Path:
    timeline = Timeline(plan, folder)
    if not timeline.samples:
        raise NoSpeech("nothing in the text can be spoken")
    path = job.folder / f"audio.{kind}"
    write_audio_file(timeline, path, kind, signer, check)
    remember(job, timeline)
    return path


def _write_chapter(job: Job, chapter: int, signer: ManifestSigner | None, check: OnSound) -> Path:
    """Write one chapter of an unfinished job, if all parts of the chapter are there."""
    kind = Order.of(job).format
    path = job.folder / "chapters" / f"{chapter + 1:04}.{kind}"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        plan = read_plan(job.book_path).only(chapter)
        timeline = Timeline(plan, PartFolder(job.folder / "parts"))
        write_chapter_file(timeline, 0, path, kind, signer, check)
    return path
