"""The loop: schedule → read or step → publish, in a thread of its own.

This is the boundary between the event loop and the model. Everything goes in through one queue of
commands and comes out through each job's `publish`, which must not block.

The thread is everybody's, so each thing it does for a stream is guarded: what fails ends that
stream, or those that it was done for together. What fails outside of a guard ends the loop, and so
does a device that is lost. Every job is then told so, `problem` says why, and nothing is taken.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_provider.engines.csm.backend import Backend, DeviceLost, OutOfMemory
from tts_provider.engines.csm.prefixes import Prefixes
from tts_provider.engines.csm.prompt import Prompt
from tts_provider.engines.csm.sampling import NO_CODE, Sampler
from tts_provider.engines.csm.scheduler import PIECE_FRAMES, Piece, Scheduler, Stream
from tts_provider.errors import EngineFailed, TTSError
from tts_provider.speech.chunker import CHUNKS_MS

log = logging.getLogger(__name__)

FRAME_MS = 80
# csm.md: the model may fall into repeating one frame; a dozen is a second of the same sound.
_SAME_FRAMES = 12
# Frames that are decoded at a time, and leave the pipeline so: later ones cost less together.
_DECODED = tuple(ms // FRAME_MS for ms in CHUNKS_MS)
_ADVICE = "try again, and if that does not help, check the model's files"


@dataclass(frozen=True)
class Decoded:
    """The next audio of a job."""

    samples: np.ndarray  # (n,) float32
    frames: int


@dataclass(frozen=True)
class Finished:
    """The job is over; `codes` is all it said, (frames, codebooks)."""

    codes: np.ndarray
    error: TTSError | None = None


class Job(Stream):
    """One segment to speak."""

    def __init__(
        self,
        prompt: Prompt,
        max_frames: int,
        sampler: Sampler,
        publish: Callable[[Decoded | Finished], None],
        prefix_key: str | None = None,
        prefix_frames: int = 0,
        adapter: Any = None,
        *,
        is_background: bool = False,
    ) -> None:
        """`prefix_key` names the start of the prompt that others have too, `prefix_frames` long;
        `adapter` is what it speaks with, as the backend loaded it."""
        super().__init__(len(prompt), max_frames, prefix_frames if prefix_key is not None else 0)
        self.is_background = is_background
        self.prompt, self.sampler, self.publish = prompt, sampler, publish
        self.prefix_key, self.adapter = prefix_key, adapter
        self.codes: list[np.ndarray] = []
        self.decoded = 0
        self.chunks = 0


class Loop:
    def __init__(
        self,
        backend: Backend,
        max_ahead_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called in the loop's thread where its device is lost, when all are told."""
        self._backend, self._on_lost = backend, on_lost
        max_ahead_frames = max(1, int(max_ahead_s * 1000 / FRAME_MS))
        self._scheduler = Scheduler[Job](backend.slots, max_ahead_frames)
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Job, None] = {}  # those that are not over, in order
        self._prefixes = Prefixes()
        self._piece = Piece(FRAME_MS / 1000)
        self._unreleased: list[int] = []  # slots whose release failed; it is tried again
        self._ending = threading.Lock()  # between `submit` and the end
        self._end_reason: str | None = None
        self._thread = threading.Thread(target=self._run, name="csm", daemon=True)
        self._thread.start()

    # From any thread

    @property
    def problem(self) -> EngineFailed | None:
        """Why nothing more is taken, if so."""
        return None if self._end_reason is None else EngineFailed(self._end_reason)

    def submit(self, job: Job) -> None:
        """The job's last item will be `Finished`. Raises `EngineFailed` when the loop has ended."""
        with self._ending:
            if (problem := self.problem) is not None:
                raise problem
            self._commands.put(lambda: self._add(job))

    def cancel(self, job: Job) -> None:
        """Publish nothing more of the job once the loop has seen this."""
        self._commands.put(lambda: self._end(job))

    def heard(self, job: Job, frames: int) -> None:
        """The listener has received this many frames."""

        def less_ahead() -> None:
            job.ahead_frames -= frames

        self._commands.put(less_ahead)

    def forget_prefixes(self) -> None:
        """Give back what kept prompts take, since memory is short; returns when that is done."""
        done = threading.Event()

        def forget() -> None:
            self._prefixes.clear()
            done.set()

        with self._ending:
            if self._end_reason is not None:
                return
            self._commands.put(forget)
        done.wait()

    def lose(self, error: DeviceLost) -> None:
        """Somebody beside the loop has noticed that its device is lost."""

        def end() -> None:
            raise error

        self._commands.put(end)

    def close(self) -> None:
        """End the thread. Remaining jobs fail."""
        self._commands.put(None)
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        reason, is_lost = "the server is stopping", False
        try:
            while self._take_commands(wait=not self._scheduler.can_work):
                self._take_turn()
        except DeviceLost as error:
            log.exception("the model's device is lost")
            reason, is_lost = f"{_sentence(error)}; the server must be started again", True
        except BaseException as error:  # whatever it is, those who wait must hear of it
            log.exception("the model's loop ended")
            reason = f"the model's loop ended ({_sentence(error)}); restart the server"
        self._end_all(reason)
        # Whoever still asks is told why there is no answer; that takes no model.
        self._prefixes.clear()
        del self._backend
        if is_lost:
            self._on_lost()

    def _take_commands(self, *, wait: bool) -> bool:
        """Do what was asked meanwhile; False when the loop shall end."""
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _take_turn(self) -> None:
        for job in list(self._jobs):
            with self._guard(job):
                self._load_prefix(job)
        plan = self._scheduler.plan(self._piece_frames())
        for job in plan.start:
            with self._guard(job):
                self._start(job)
                self._load_prefix(job)
        if plan.read is not None and plan.read[0] in self._jobs:
            job, frames = plan.read
            with self._guard(job):
                self._read(job, frames)
        ready = [job for job in plan.step if job in self._jobs]
        if ready:
            began = time.perf_counter()
            for group in self._backend.groups(_slots(ready), [job.sampler for job in ready]):
                together = [ready[row] for row in group]
                with self._guard(*together):
                    self._step(together)
            self._piece.learn_step(time.perf_counter() - began)
        if self._unreleased:
            self._release_again()

    def _piece_frames(self) -> int:
        if not self._backend.cuts_freely:
            return PIECE_FRAMES
        return self._piece.frames(self._scheduler.least_ahead)

    @contextlib.contextmanager
    def _guard(self, *jobs: Job) -> Iterator[None]:
        """A failure within ends the jobs it concerns and nothing else."""
        try:
            yield
        except DeviceLost:
            raise
        except Exception as error:  # whatever it is, the other streams go on
            log.exception("speaking failed")
            for job in jobs:
                self._end(job, EngineFailed(f"the model failed: {_sentence(error)}"))

    def _add(self, job: Job) -> None:
        self._jobs[job] = None
        self._scheduler.add(job)

    def _end(self, job: Job, error: TTSError | None = None) -> None:
        if job not in self._jobs:
            return
        del self._jobs[job]
        try:
            self._scheduler.remove(job)
            if job.slot is not None:
                self._release(job.slot)
                job.slot = None
        finally:
            self._tell_end(job, error)

    def _tell_end(self, job: Job, error: TTSError | None) -> None:
        try:
            codes = np.array(job.codes, np.int64).reshape(-1, self._backend.codebooks)
            job.publish(Finished(codes, error))
        except Exception:  # its listener's; there is nobody else to tell
            log.exception("a stream could not be told that it ended")

    def _release(self, slot: int) -> None:
        try:
            self._backend.release(slot)
        except Exception:  # the stream is over in any case
            log.exception("a slot could not be released; trying again")
            self._unreleased.append(slot)
            self._scheduler.slots -= 1

    def _release_again(self) -> None:
        """Raises what hinders it where no slot is left, so that nobody waits for one for ever."""
        for slot in list(self._unreleased):
            try:
                self._backend.release(slot)
            except Exception:
                if self._scheduler.slots == 0:
                    raise
                log.debug("slot %d could not be released again", slot, exc_info=True)
            else:
                self._unreleased.remove(slot)
                self._scheduler.slots += 1

    def _end_all(self, reason: str) -> None:
        with self._ending:
            self._end_reason = reason
        # From here on nothing is submitted; what was is in the queue or among the jobs.
        with contextlib.suppress(queue.Empty):
            while True:
                if (command := self._commands.get_nowait()) is not None:
                    with contextlib.suppress(DeviceLost):  # it is known by now
                        command()
        for job in list(self._jobs):
            try:
                self._end(job, EngineFailed(reason))
            except Exception:  # it was told; so will the others be
                log.exception("a stream could not be ended")

    def _start(self, job: Job) -> None:
        job.slot = self._backend.acquire(job.adapter)

    def _load_prefix(self, job: Job) -> None:
        """Where somebody has read the start of its prompt meanwhile, it need not."""
        prefix = self._prefixes.get(job.prefix_key)
        if prefix is None or job.slot is None or job.read_frames:
            return
        try:
            self._backend.load_prefix(job.slot, prefix)
        except Exception:
            self._prefixes.drop(job.prefix_key)  # the next one reads it anew
            raise
        job.read_frames = job.cut_frames

    def _read(self, job: Job, frames: int) -> None:
        start = job.read_frames
        frames = min(frames, len(job.prompt) - start)  # it may have loaded a prefix
        assert job.slot is not None
        began = time.perf_counter()
        self._backend.prefill(job.slot, job.prompt.piece(start, start + frames))
        self._piece.learn_read(frames, time.perf_counter() - began)
        job.read_frames += frames
        if job.prefix_key is not None and job.read_frames == job.cut_frames:
            self._keep_prefix(job.prefix_key, job.slot)

    def _keep_prefix(self, key: str, slot: int) -> None:
        """What fails here costs the next job of this voice a reading, and this one nothing."""
        try:
            try:
                prefix = self._backend.save_prefix(slot)
            except OutOfMemory:
                self._prefixes.clear()  # all that can be given back
                prefix = self._backend.save_prefix(slot)
        except DeviceLost:
            raise
        except Exception:
            log.warning("the prompt of a voice could not be stored", exc_info=True)
            return
        self._prefixes.keep(key, prefix)

    def _step(self, jobs: list[Job]) -> None:
        codes = self._backend.step(_slots(jobs), [job.sampler for job in jobs])
        for job, frame in zip(jobs, codes, strict=True):
            with self._guard(job):
                self._take(job, frame)
        self._publish([job for job in jobs if job in self._jobs])
        for job in jobs:
            if job in self._jobs and job.made_frames >= job.max_frames:
                with self._guard(job):
                    self._finish(job)

    def _take(self, job: Job, frame: np.ndarray) -> None:
        if (frame == NO_CODE).any():
            if job.prefix_key is not None:  # it may have such numbers too
                self._prefixes.drop(job.prefix_key)
            raise EngineFailed(f"its logits are not finite; {_ADVICE}")
        # The reference stops when all 32 codes are 0 and drops that frame.
        if not frame.any():
            self._finish(job)
            return
        job.codes.append(frame)
        job.made_frames += 1
        job.ahead_frames += 1
        last = job.codes[-_SAME_FRAMES:]
        if len(last) == _SAME_FRAMES and all((frame == other).all() for other in last):
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self._decode([job], len(job.codes) - job.decoded)
        self._end(job)

    def _publish(self, jobs: list[Job]) -> None:
        """Decode those whose chunk is full; equal lengths go together."""
        due: dict[int, list[Job]] = {}
        for job in jobs:
            pending = len(job.codes) - job.decoded
            if pending >= _DECODED[min(job.chunks, len(_DECODED) - 1)]:
                due.setdefault(pending, []).append(job)
        for frames, group in due.items():
            with self._guard(*group):
                self._decode(group, frames)

    def _decode(self, jobs: list[Job], frames: int) -> None:
        if frames == 0:
            return
        codes = np.stack([np.array(job.codes[-frames:]) for job in jobs])  # [jobs, frames, books]
        for job, samples in zip(jobs, self._backend.decode(_slots(jobs), codes), strict=True):
            job.decoded += frames
            job.chunks += 1
            with self._guard(job):
                _send(job, Decoded(samples, frames))


def _slots(jobs: list[Job]) -> list[int]:
    return [job.slot for job in jobs if job.slot is not None]


def _send(job: Job, audio: Decoded) -> None:
    if not np.isfinite(audio.samples).all():
        raise EngineFailed(f"the codec's samples are not finite; {_ADVICE}")
    job.publish(audio)


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
