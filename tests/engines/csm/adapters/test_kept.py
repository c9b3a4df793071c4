"""Which adapters are in memory: those that speak, and as many of the others as there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import pytest

from tts_provider.config import Limits
from tts_provider.engines.csm.adapters.kept import KeptAdapters, stored_ranks
from tts_provider.engines.csm.backend import OutOfMemory
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.errors import InvalidRequest, OverCapacity
from tts_provider.voices.store import VoiceStore

from .trained import train_voice


@dataclass
class Loaded:
    number: int
    size_bytes: int = 100


class Loader:
    """Counts what it is asked to load."""

    def __init__(self) -> None:
        self.count = 0

    def load(self, adapter) -> Loaded:
        self.count += 1
        return Loaded(self.count)

    async def run(self, work, *arguments):
        return await asyncio.to_thread(work, *arguments)


@pytest.fixture(scope="module")
def config(small_folder):
    return open_checkpoint(small_folder).config


@pytest.fixture(scope="module")
def folder(small_model, tmp_path_factory):
    made = tmp_path_factory.mktemp("adapter")
    train_voice(small_model, made, 1)
    return made


@pytest.fixture
def store(tmp_path):
    return VoiceStore(tmp_path / "voices", Limits())


@pytest.fixture
def voices(store, folder):
    return [store.add(name, None, True, None, folder).voice for name in "abcd"]


def keep(store, config, loader, **limits):
    kept = KeptAdapters(store, config, Limits(**limits))
    return kept, lambda voice: kept.use(voice, loader.load, loader.run)


async def once(use, voice):
    async with use(voice) as adapter:
        return adapter


async def test_each_is_read_once_and_those_that_spoke_last_are_kept(store, config, voices):
    loader = Loader()
    _, use = keep(store, config, loader, max_adapters=2)
    first = await once(use, voices[0])
    assert await once(use, voices[0]) is first
    second = await once(use, voices[1])
    assert await once(use, voices[0]) is first  # now the second is the oldest
    await once(use, voices[2])
    assert await once(use, voices[0]) is first
    assert await once(use, voices[1]) is not second
    assert loader.count == 4


async def test_who_asks_at_once_waits_for_one_reading(store, config, voices):
    loader = Loader()
    _, use = keep(store, config, loader)
    found = await asyncio.gather(*(once(use, voices[0]) for _ in range(5)))
    assert len({id(adapter) for adapter in found}) == loader.count == 1


async def test_one_that_is_there_does_not_wait_for_another(store, config, voices):
    loader, begun, go_on = Loader(), asyncio.Event(), asyncio.Event()

    async def run_slowly(work, *arguments):
        begun.set()
        await go_on.wait()
        return work(*arguments)

    kept, use = keep(store, config, loader)
    await once(use, voices[0])
    slow = asyncio.create_task(once(lambda v: kept.use(v, loader.load, run_slowly), voices[1]))
    await begun.wait()
    await once(use, voices[0])
    assert not slow.done()
    go_on.set()
    await slow


@pytest.mark.parametrize(
    "limits", [{"max_adapters": 2}, {"max_adapters_memory_bytes": 1100}], ids=["number", "bytes"]
)
async def test_one_that_speaks_is_not_taken_out(store, config, voices, limits):
    loader = Loader()
    loader.load = lambda adapter: Loaded(0, size_bytes=500)
    _, use = keep(store, config, loader, **limits)
    async with use(voices[0]) as first, use(voices[1]), use(voices[1]):
        with pytest.raises(OverCapacity, match=r"2 adapters speak now.*the limits are \d+") as full:
            await once(use, voices[2])
        assert full.value.retry_after_ms > 0
        assert await once(use, voices[0]) is first
    assert await once(use, voices[2])


async def test_what_one_alone_may_take_is_bounded(store, config, voices):
    loader = Loader()
    loader.load = lambda adapter: Loaded(0, size_bytes=5000)
    _, use = keep(store, config, loader, max_adapters_memory_bytes=4000)
    with pytest.raises(InvalidRequest, match="takes 5000 bytes of memory, the limit is 4000") as no:
        await once(use, voices[0])
    assert no.value.code == "adapter_unusable"


async def test_an_adapter_of_another_model_is_refused_once_and_for_itself(
    store, config, voices, small_model, tmp_path, caplog
):
    loader = Loader()
    train_voice(small_model, tmp_path / "odd", 1, target_modules=["lm_head"])
    odd = store.add("odd", None, True, None, tmp_path / "odd").voice
    _, use = keep(store, config, loader)
    whole = await once(use, voices[0])
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="cannot be used with this server's model") as no:
            await once(use, odd)
        assert no.value.code == "adapter_unusable"
        assert str(tmp_path) not in no.value.message
    assert caplog.text.count("replaces lm_head.weight") == 1
    assert await once(use, voices[0]) is whole


def unreadable_header() -> None:
    from tts_provider.engines.csm.files.tensors import read_header

    read_header(Path(os.devnull) / "nothing")


def fail(error: Exception):
    def raise_it() -> None:
        raise error

    return raise_it


PASSING = {
    "no file handle": fail(OSError(24, "Too many open files")),
    "a file that cannot be read": unreadable_header,
    "no memory": fail(MemoryError()),
    "no memory on the GPU": fail(OutOfMemory("the GPU is out of memory")),
}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_passes_is_forgotten_and_does_not_make_each_request_read(
    store, config, voices, fault
):
    now, tries = [100.0], []

    def load(adapter) -> Loaded:
        tries.append(now[0])
        if len(tries) < 3:
            PASSING[fault]()
        return Loaded(1)

    kept = KeptAdapters(store, config, Limits(), clock=lambda: now[0])

    async def ask() -> Loaded:
        return await once(lambda voice: kept.use(voice, load, Loader().run), voices[0])

    for at in (100, 104.9, 105, 109):
        now[0] = at
        with pytest.raises(OverCapacity, match="cannot be read now; try again later") as no:
            await ask()
        assert (no.value.retry_after_ms, no.value.param) == (5000, "voice")
    assert tries == [100, 105]
    now[0] = 110
    assert await ask()
    assert await ask()
    assert tries == [100, 105, 110]


async def test_a_damaged_one_is_refused_and_the_others_are_not(store, config, voices, tmp_path):
    loader, now = Loader(), [100.0]
    kept = KeptAdapters(store, config, Limits(), clock=lambda: now[0])

    def use(voice):
        return kept.use(voice, loader.load, loader.run)

    path = tmp_path / "voices" / voices[0].id / "adapter" / "adapter_model.safetensors"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="gone or damaged"):
            await once(use, voices[0])
    assert await once(use, voices[1])
    path.write_bytes(whole)
    now[0] += 5
    assert await once(use, voices[0]), "copied back, it needs no restart"


async def test_closed_nothing_of_them_is_left(store, config, voices):
    async def run(work, *arguments):  # a thread may remember what it did last
        return work(*arguments)

    kept = KeptAdapters(store, config, Limits())
    async with kept.use(voices[0], Loader().load, run) as adapter:
        gone = weakref.ref(adapter)
        kept.close()
        assert adapter.size_bytes == 100
    del adapter
    assert gone() is None


async def test_a_voice_without_one_has_none(store, config):
    loader = Loader()
    _, use = keep(store, config, loader)
    assert await once(use, None) is None
    assert loader.count == 0


async def test_who_leaves_while_it_is_read_leaves_no_place_taken(store, config, voices):
    loader, begun, go_on = Loader(), asyncio.Event(), asyncio.Event()

    async def run(work, *arguments):
        begun.set()
        await go_on.wait()
        return work(*arguments)

    kept = KeptAdapters(store, config, Limits(max_adapters=1))
    waiting = asyncio.create_task(once(lambda v: kept.use(v, loader.load, run), voices[0]))
    await begun.wait()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert await once(lambda v: kept.use(v, loader.load, loader.run), voices[1])


def test_the_ranks_that_voices_have_are_counted_and_what_cannot_be_read_is_not(
    store, small_model, folder, tmp_path
):
    assert stored_ranks(store, Limits()) == 0
    train_voice(small_model, tmp_path / "wide", 2, r=9)
    for source in (folder, tmp_path / "wide", folder):
        added = store.add("a", None, True, None, source).voice
    assert stored_ranks(store, Limits()) == 4 + 9 + 4
    assert stored_ranks(store, Limits(max_adapters=2)) == 9 + 4, "no more are in memory at once"
    (tmp_path / "voices" / added.id / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    assert stored_ranks(store, Limits()) == 4 + 9
