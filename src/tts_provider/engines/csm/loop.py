"""The loop: schedule → read or step → publish, in a thread of its own.

This is the boundary between the event loop and the model. Everything goes in through one queue of
commands and comes out through each job's `publish`, which must not block.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tts_provider.engines.csm.backend import Backend
from tts_provider.engines.csm.prompt import Prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.scheduler import Scheduler, Stream
from tts_provider.errors import EngineFailed, TTSError

log = logging.getLogger(__name__)

FRAME_MS = 80
# csm.md: the model may fall into repeating one frame; a dozen is a second of the same sound.
_SAME_FRAMES = 12
# Frames a message: the first sound leaves at once, later ones cost less together.
_CHUNK_RAMP = (1, 2, 4)
_PREFIXES_KEPT = 16


@dataclass(frozen=True)
class Audio:
    """Some more of a job's audio."""

    samples: np.ndarray  # (n,) float32
    frames: int


@dataclass(frozen=True)
class Finished:
    """The job is over; `codes` is all it said, (frames, codebooks)."""

    codes: np.ndarray
    error: TTSError | None = None


@dataclass(eq=False)
class Job:
    """One segment to speak."""

    prompt: Prompt
    max_frames: int
    sampler: Sampler
    publish: Callable[[Audio | Finished], None]
    prefix_key: str | None = None
    """Names the start of the prompt that other jobs share, `prefix_frames` long."""
    prefix_frames: int = 0
    stream: Stream = field(init=False)
    codes: list[np.ndarray] = field(default_factory=list)
    decoded: int = 0
    chunks: int = 0

    def __post_init__(self) -> None:
        cut = self.prefix_frames if self.prefix_key is not None else 0
        self.stream = Stream(len(self.prompt), self.max_frames, cut)


class Loop:
    def __init__(self, backend: Backend, max_ahead_s: float) -> None:
        self._backend = backend
        self._scheduler = Scheduler(backend.slots, max(1, int(max_ahead_s * 1000 / FRAME_MS)))
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Stream, Job] = {}
        self._prefixes: OrderedDict[str, Any] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="csm", daemon=True)
        self._thread.start()

    # From any thread

    def submit(self, job: Job) -> None:
        self._commands.put(lambda: self._add(job))

    def cancel(self, job: Job) -> None:
        """Nothing more of the job is published once the loop has seen this."""
        self._commands.put(lambda: self._end(job))

    def heard(self, job: Job, frames: int) -> None:
        """The listener has taken so many frames."""

        def less_ahead() -> None:
            job.stream.ahead_frames -= frames

        self._commands.put(less_ahead)

    def close(self) -> None:
        """End the thread; jobs that are left fail."""
        self._commands.put(None)
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        while self._take_commands(wait=not self._scheduler.can_work):
            plan = self._scheduler.plan()
            for stream in plan.start:
                self._guard([stream], self._start)
            if plan.read is not None and plan.read[0] in self._jobs:
                stream, frames = plan.read
                self._guard([stream], functools.partial(self._read, frames))
            ready = [stream for stream in plan.step if stream in self._jobs]
            if ready:
                self._guard(ready, self._step)
        for job in list(self._jobs.values()):
            self._end(job, EngineFailed("the server is stopping"))

    def _take_commands(self, *, wait: bool) -> bool:
        """Do what was asked meanwhile; False when the loop shall end."""
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            try:
                command()
            except Exception:  # one stream's; the thread is everybody's
                log.exception("the model's loop failed")
            wait = False

    def _guard(self, streams: list[Stream], work: Callable[[list[Stream]], None]) -> None:
        """A failure ends the streams it concerns and nothing else."""
        try:
            work(streams)
        except Exception as error:  # whatever it is, the other streams go on
            log.exception("speaking failed")
            for stream in streams:
                if stream in self._jobs:
                    self._end(self._jobs[stream], EngineFailed(f"the model failed: {error}"))

    def _add(self, job: Job) -> None:
        self._jobs[job.stream] = job
        self._scheduler.add(job.stream)

    def _end(self, job: Job, error: TTSError | None = None) -> None:
        if self._jobs.pop(job.stream, None) is None:
            return
        self._scheduler.remove(job.stream)
        if job.stream.slot is not None:
            self._backend.release(job.stream.slot)
            job.stream.slot = None
        codes = np.array(job.codes, np.int64).reshape(-1, self._backend.codebooks)
        job.publish(Finished(codes, error))

    def _start(self, streams: list[Stream]) -> None:
        (stream,) = streams
        job = self._jobs[stream]
        stream.slot = self._backend.acquire()
        prefix = self._prefixes.get(job.prefix_key) if job.prefix_key is not None else None
        if prefix is not None:
            assert job.prefix_key is not None
            self._prefixes.move_to_end(job.prefix_key)
            self._backend.load_prefix(stream.slot, prefix)
            stream.read_frames = job.prefix_frames

    def _read(self, frames: int, streams: list[Stream]) -> None:
        (stream,) = streams
        job, start = self._jobs[stream], stream.read_frames
        assert stream.slot is not None
        self._backend.prefill(stream.slot, job.prompt.piece(start, start + frames))
        stream.read_frames += frames
        if job.prefix_key is not None and stream.read_frames == job.prefix_frames:
            self._prefixes[job.prefix_key] = self._backend.save_prefix(stream.slot)
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)

    def _step(self, streams: list[Stream]) -> None:
        jobs = [self._jobs[stream] for stream in streams]
        slots = [stream.slot for stream in streams if stream.slot is not None]
        codes = self._backend.step(slots, [job.sampler for job in jobs])
        for job, frame in zip(jobs, codes, strict=True):
            self._guard([job.stream], functools.partial(self._take, job, frame))
        self._publish([job for job in jobs if job.stream in self._jobs])
        for job in jobs:
            if job.stream in self._jobs and job.stream.made_frames >= job.max_frames:
                self._guard([job.stream], functools.partial(self._finish, job))

    def _take(self, job: Job, frame: np.ndarray, _streams: list[Stream]) -> None:
        # The reference stops when all 32 codes are 0 and drops that frame.
        if not frame.any():
            self._finish(job, _streams)
            return
        job.codes.append(frame)
        job.stream.made_frames += 1
        job.stream.ahead_frames += 1
        last = job.codes[-_SAME_FRAMES:]
        if len(last) == _SAME_FRAMES and all((frame == other).all() for other in last):
            self._finish(job, _streams)

    def _finish(self, job: Job, _streams: list[Stream]) -> None:
        self._decode([job], len(job.codes) - job.decoded)
        self._end(job)

    def _publish(self, jobs: list[Job]) -> None:
        """Decode those whose chunk is full; equal lengths go together."""
        due: dict[int, list[Job]] = {}
        for job in jobs:
            pending = len(job.codes) - job.decoded
            if pending >= _CHUNK_RAMP[min(job.chunks, len(_CHUNK_RAMP) - 1)]:
                due.setdefault(pending, []).append(job)
        for frames, group in due.items():
            decode = functools.partial(self._decode_streams, frames)
            self._guard([job.stream for job in group], decode)

    def _decode_streams(self, frames: int, streams: list[Stream]) -> None:
        self._decode([self._jobs[stream] for stream in streams], frames)

    def _decode(self, jobs: list[Job], frames: int) -> None:
        if frames == 0:
            return
        slots = [job.stream.slot for job in jobs if job.stream.slot is not None]
        codes = np.stack([np.array(job.codes[-frames:]) for job in jobs])  # [jobs, frames, books]
        for job, samples in zip(jobs, self._backend.decode(slots, codes), strict=True):
            job.decoded += frames
            job.chunks += 1
            job.publish(Audio(samples, frames))
