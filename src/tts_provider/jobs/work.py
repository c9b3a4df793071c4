"""Parts of a book that are not made yet → made, several at once; what is made stays made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tts_provider.errors import TTSError
from tts_provider.jobs.parts import PartFacts, PartFolder
from tts_provider.jobs.plan import Part, Plan
from tts_provider.jobs.speaker import Speaker, trim
from tts_provider.speech.engine import SAMPLE_RATE


@dataclass(frozen=True)
class PartDone:
    """A part that is there now."""

    part: Part
    facts: PartFacts
    was_there: bool
    """It was made before."""

    @property
    def audio_s(self) -> float:
        return self.facts.samples / SAMPLE_RATE


async def make_parts(
    plan: Plan, folder: PartFolder, speaker: Speaker, at_once: int
) -> AsyncGenerator[PartDone, None]:
    """Speak what is missing, `at_once` parts at a time, in the order of the book; yields each part
    when it is on the disk, first those that were there before.

    Closed or cancelled, it ends with no part half made. Raises what the speaker raises and
    `TTSError` where nothing can be written, when no other part is under way any more.
    """
    missing = list[Part]()
    for part in plan.parts:
        facts = await asyncio.to_thread(folder.find, part.number)
        if facts is not None and len(facts.lines) == len(part.lines):
            yield PartDone(part, facts, was_there=True)
        else:
            missing.append(part)
    missing.reverse()
    running = dict[asyncio.Task[PartFacts], Part]()
    try:
        while True:
            while missing and len(running) < at_once:
                part = missing.pop()
                running[asyncio.create_task(_make(part, folder, speaker))] = part
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda one: running[one].number):
                part = running.pop(task)
                yield PartDone(part, task.result(), was_there=False)
    finally:
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError, TTSError):
                await task


async def _make(part: Part, folder: PartFolder, speaker: Speaker) -> PartFacts:
    lines = [trim(await speaker.speak(line.text)) for line in part.lines]
    return await asyncio.to_thread(folder.write, part.number, lines)
