"""Threads of listeners, and those that give way to them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from servers import embedded_engine
from tts_provider.engines.pools import Pools
from tts_provider.speech.engine import Utterance


def test_a_job_in_the_background_never_holds_up_who_listens():
    pools = Pools(1, "test")
    begun, ending = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        ending.wait()

    background = pools.of(is_background=True).submit(work)
    begun.wait()
    assert pools.of(is_background=False).submit(lambda: 7).result() == 7
    ending.set()
    background.result()
    pools.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_its_threads_have_the_least_priority():
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    pools = Pools(2, "test")
    assert pools.of(is_background=True).submit(priority).result() == 19
    assert pools.of(is_background=False).submit(priority).result() == priority()
    pools.close()


async def test_the_same_words_are_the_same_samples_in_the_background():
    engine = embedded_engine()
    await engine.load(lambda line: None)

    async def samples(*, is_background: bool) -> bytes:
        utterance = Utterance("Nobody waits.", engine.voices()[0], is_background=is_background)
        return b"".join([sound.samples.tobytes() async for sound in engine.speak(utterance)])

    made = await asyncio.gather(samples(is_background=True), samples(is_background=False))
    assert made[0] == made[1]
    await engine.close()
