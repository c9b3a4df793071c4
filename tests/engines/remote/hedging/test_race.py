"""A gateway's engine before replicas that are late, stall, or fall silent, over loopback."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from engines.remote.running import (
    ESPEAK,
    HEAD,
    collect,
    frames_bytes,
    remote_engine,
    running_replica,
    utterance,
)
from engines.remote.test_engine import AUDIO, LONG_TEXT, until
from servers import PATIENCE_S, SteppedEngine
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.remote.hedging.latency import Latency, Range
from tts_provider.errors import EngineLost
from tts_provider.speech.engine import Sound

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
QUICK = Range(floor_s=0.02, ceiling_s=0.05, unknown_s=0.05)


class Unlike(SteppedEngine):
    repeats = False


class Louder(EspeakEngine):
    """What another kind of processor may make of it: other samples."""

    async def speak(self, utterance):
        async with contextlib.aclosing(super().speak(utterance)) as sounds:
            async for sound in sounds:
                yield Sound(sound.samples * np.float32(1.1), sound.words)


@contextlib.asynccontextmanager
async def gateway(*urls, **options):
    """The first address is asked first, and no patience is long."""
    async with remote_engine(*urls, **options) as engine:
        addresses = engine.replicas.addresses
        for address in addresses:
            address.first_audio, address.lateness = Latency(QUICK), Latency(QUICK)
        yield engine


def rescues(engine):
    counter = engine.replicas.counts._rescues
    return {tuple(s.labels.values()): s.value for m in counter.collect() for s in m.samples
            if s.name.endswith("_total") and s.value}  # fmt: skip


async def whole(engine, **fields):
    return np.concatenate([s.samples for s in await collect(engine, utterance(**fields))])


async def test_who_speaks_first_is_heard_and_the_other_is_let_go():
    stepped = SteppedEngine()
    async with running_replica(stepped) as late, running_replica() as other:
        async with gateway(late.url, other.url) as engine:
            heard = await whole(engine)
            await until(lambda: late.active == 0)
            assert rescues(engine) == {("first_audio", "won"): 1.0}
            slow, quick = engine.replicas.addresses
            assert (slow.standing.share, quick.standing.share) == (0.5, 1.0)
    assert np.array_equal(heard, await whole(EspeakEngine()))


async def test_who_speaks_after_all_is_heard_if_the_other_has_not():
    engines = SteppedEngine(), SteppedEngine()
    async with running_replica(engines[0]) as first, running_replica(engines[1]) as second:
        async with gateway(first.url, second.url) as engine:
            speaking = asyncio.create_task(whole(engine))
            await until(lambda: second.active == 1)
            engines[0].allow()
            assert len(await speaking)
            await until(lambda: second.active == 0)
            assert rescues(engine) == {("first_audio", "lost"): 1.0}
            assert [a.standing.share for a in engine.replicas.addresses] == [1.0, 1.0]


@pytest.mark.parametrize("percent", [0, 2])
async def test_of_a_slow_cluster_no_more_is_asked_twice_than_the_budget_allows(
    monkeypatch, percent
):
    monkeypatch.setattr("tts_provider.engines.remote.replicas._SUSPECT_TIMEOUT_S", PATIENCE_S)
    engines = SteppedEngine(), SteppedEngine()
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(running_replica(e, max_streams=64)) for e in engines
        ]
        urls = [replica.url for replica in replicas]
        engine = await stack.enter_async_context(gateway(*urls, hedge_percent=percent))
        speaking = [asyncio.create_task(whole(engine)) for _ in range(24)]
        twice = 8 if percent else 0
        await until(lambda: sum(e.waiting for e in engines) == 24 + twice)
        await until(lambda: rescues(engine).get(("any", "refused"), 0) == 24 - twice)
        for stepped in engines:
            stepped.allow()
        await asyncio.gather(*speaking)
        assert sum(r.active for r in replicas) <= twice


@pytest.mark.parametrize("seed", [None, 7])
async def test_speech_that_stalls_is_taken_over_where_it_was(seed):
    stepped = SteppedEngine()
    stepped.allow(7)
    async with running_replica(stepped) as stalling, running_replica() as other:
        async with gateway(stalling.url, other.url) as engine:
            heard = await whole(engine, text=LONG_TEXT, seed=seed)
            await until(lambda: stalling.active == 0)
            assert rescues(engine) == {("middle", "won"): 1.0}
    assert np.array_equal(heard, await whole(EspeakEngine(), text=LONG_TEXT, seed=seed))


async def test_other_samples_go_on_behind_a_word_and_never_with_a_seed():
    asked = {"text": LONG_TEXT, "word_times": True}
    alone = await collect(EspeakEngine(), utterance(**asked))
    here = np.concatenate([sound.samples for sound in alone])
    for seed in (None, 7):
        stepped = SteppedEngine()
        stepped.allow(7)
        async with running_replica(stepped) as stalling, running_replica(Louder()) as other:
            async with gateway(stalling.url, other.url) as engine:
                speaking = asyncio.create_task(collect(engine, utterance(**asked, seed=seed)))
                if seed is not None:
                    await until(lambda r=other: b"tts_passages_total{" in r.metrics.render())
                    stepped.allow()
                sounds = await speaking
                samples = np.concatenate([sound.samples for sound in sounds])
                if seed is not None:
                    assert np.array_equal(samples, here)
                    continue
                # `SteppedEngine` tells words at the end only, so that none was heard: it is said
                # anew, behind the 7 × 80 ms that were heard.
                assert len(samples) == len(here) + 7 * 1920
                told = [word for sound in sounds for word in sound.words]
                assert told == [w.moved(7 * 1920) for sound in alone for w in sound.words]


async def test_speech_that_nobody_repeats_is_waited_for_and_never_mixed():
    stepped = Unlike()
    stepped.allow(7)
    async with running_replica(stepped) as stalling, running_replica(Unlike()) as other:
        async with gateway(stalling.url, other.url) as engine:
            speaking = asyncio.create_task(whole(engine, text=LONG_TEXT))
            await until(lambda: engine.replicas._suspects)
            first, _ = engine.replicas.addresses
            await until(lambda: not first.is_asked)
            assert not speaking.done(), "it is slow, and says that it is there"
            stepped.allow()
            heard = await speaking
            assert rescues(engine) == {}
            assert other.metrics.render().count(b"tts_passages_total{") == 0
    assert np.array_equal(heard, await whole(EspeakEngine(), text=LONG_TEXT))


@contextlib.asynccontextmanager
async def freezing(*sent):
    """It describes itself once; a passage has these frames; then it says nothing at all."""
    described, stop = [], asyncio.Event()

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                writer.write(HEAD + frames_bytes(*sent))
                await stop.wait()
            elif not described:
                described.append(head)
                writer.write(HEAD + ESPEAK.model_dump_json().encode())
            else:
                await stop.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        stop.set()
        server.close()


@pytest.fixture
def quick_question(monkeypatch):
    monkeypatch.setattr("tts_provider.engines.remote.replicas._SUSPECT_TIMEOUT_S", 0.3)


async def test_speech_that_nobody_repeats_is_lost_as_soon_as_its_replica_is_silent(quick_question):
    async with freezing(AUDIO) as url, running_replica() as other:
        async with gateway(url, other.url) as engine:
            with pytest.raises(EngineLost, match=r"did not begin to answer in 0\.3 s"):
                await asyncio.wait_for(whole(engine), 5.0)
            assert "tts_passages" not in other.metrics.render().decode().split("total{")[0][-12:]


async def test_who_is_silent_is_lost_without_a_budget_too(quick_question):
    async with freezing() as url, running_replica() as other:
        async with gateway(url, other.url, hedge_percent=0) as engine:
            heard = await asyncio.wait_for(whole(engine), 5.0)
    assert np.array_equal(heard, await whole(EspeakEngine()))


async def test_gateways_set_a_slow_replica_aside_each_by_itself_and_try_it_again():
    stepped = SteppedEngine()
    async with running_replica(stepped) as slow, running_replica() as other:
        async with gateway(slow.url, other.url) as one, gateway(slow.url, other.url) as two:
            for engine in (one, two):
                address = next(iter(engine.replicas.addresses))
                for _ in range(40):
                    assert len(await whole(engine))
                    if address.standing.is_aside:
                        break
                assert address.standing.is_aside
                count = sum(rescues(engine).values())
                for _ in range(3):
                    assert len(await whole(engine))
                assert sum(rescues(engine).values()) == count, "nobody waits for it any more"
                assert count == 3
            stepped.allow()
            address.standing._next_trial_s = 0.0
            await whole(two)
            assert not address.standing.is_aside
            assert one.replicas.addresses._all[0].standing.is_aside
            await asyncio.wait_for(until(lambda: slow.active == 0), PATIENCE_S)
