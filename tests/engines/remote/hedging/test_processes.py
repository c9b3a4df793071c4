"""Replicas as processes, of which one is frozen, throttled or killed, and their listeners."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from contextlib import ExitStack

import pytest

from engines.remote.running import ReplicaProcess, replica_process
from engines.remote.test_engine import until
from engines.remote.test_gateway import converse, session
from servers import PATIENCE_S, receive, running_server, send
from tts_provider.engines.remote.engine import RemoteEngine

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
TEXT = "Two children count the lamps along the water. " * 4


@contextlib.asynccontextmanager
async def two_replicas(folder, engine="espeak"):
    """A server that speaks with them, the first of them, and the server's engine."""
    with ExitStack() as stack:

        def start():
            flags = ["--engine", engine]
            return [stack.enter_context(replica_process(folder, *flags)) for _ in range(2)]

        processes = await asyncio.to_thread(start)
        remote = RemoteEngine([process.url for process in processes])
        async with running_server(remote) as server:
            yield server, processes[0], remote


async def say_often(server, times, text=TEXT, **settings):
    """What one session says; it must be the same every time."""
    talk, _ = await session(server)
    async with talk:
        if settings:
            await send(talk, type="session.update", max_ahead_ms=settings["ahead_ms"])
            assert (await receive(talk))["type"] == "session.updated"
        heard = []
        for number in range(times):
            audio, kinds = await converse(talk, str(number), text)
            assert "error" not in kinds, kinds
            heard.append(audio)
        assert len(set(heard)) == 1
        return heard[0]


async def test_a_frozen_replica_costs_nobody_an_answer(tmp_path):
    async with two_replicas(tmp_path) as (server, replica, engine):
        text = "Two children count the lamps."
        expected = await say_often(server, 2, text)
        replica.send(signal.SIGSTOP)
        try:
            heard = await asyncio.gather(*(say_often(server, 3, text) for _ in range(4)))
            first = next(iter(engine.replicas.addresses))
            assert first.standing.is_aside or not first.is_up
        finally:
            replica.send(signal.SIGCONT)
        assert set(heard) == {expected}


async def throttle(replica):
    """A tenth of the time is left to it."""
    for number in itertools.count():
        replica.send(signal.SIGCONT if number % 2 else signal.SIGSTOP)
        await asyncio.sleep(0.01 if number % 2 else 0.09)


@pytest.mark.slow("10 s each: eight listeners hear eight sentences at the pace of speech")
@pytest.mark.parametrize("blow", ["frozen", "throttled", "killed"])
async def test_eight_listeners_hear_all_whatever_happens_to_one_of_two(tmp_path, blow):
    async with two_replicas(tmp_path) as (server, replica, _):
        expected = await say_often(server, 1)
        talks = [asyncio.create_task(say_often(server, 1, ahead_ms=400)) for _ in range(8)]
        await asyncio.sleep(3.0)  # in the middle
        throttling = asyncio.create_task(throttle(replica)) if blow == "throttled" else None
        if blow != "throttled":
            replica.send(signal.SIGSTOP if blow == "frozen" else signal.SIGKILL)
        try:
            heard = await asyncio.gather(*talks)
        finally:
            if throttling is not None:
                throttling.cancel()
            replica.send(signal.SIGCONT)
        assert set(heard) == {expected}


@pytest.mark.slow("15 s: three replicas are drained and started anew while eight listeners hear")
async def test_a_rollout_of_three_replicas_is_not_noticed(tmp_path):
    with ExitStack() as stack:

        def start(*flags):
            process = ReplicaProcess(tmp_path, *flags)
            stack.callback(process.process.stderr.close)
            stack.callback(process.process.wait)
            stack.callback(process.process.kill)
            process.wait_ready()
            return process

        def roll_out(processes):
            for old in processes:
                old.send(signal.SIGTERM)
                assert old.process.wait(PATIENCE_S) == 0
                start("--port", old.port)

        processes = await asyncio.to_thread(lambda: [start("--port", "0") for _ in range(3)])
        engine = RemoteEngine([process.url for process in processes])
        async with running_server(engine) as server:
            expected = await say_often(server, 1)
            talks = [asyncio.create_task(say_often(server, 1, ahead_ms=400)) for _ in range(8)]
            await asyncio.to_thread(roll_out, processes)
            assert set(await asyncio.gather(*talks)) == {expected}
            (streams,) = engine.replicas.counts._streams.collect()
            outcomes = {sample.labels["outcome"] for sample in streams.samples}
            assert "lost" not in outcomes, "whoever drains says so, and finishes"
            await until(lambda: all(address.is_up for address in engine.replicas.addresses))
