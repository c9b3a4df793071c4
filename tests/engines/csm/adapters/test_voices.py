"""Voices with adapters, from the command that adds them to a listener: alone, together, through a
gateway, and beside those that have none."""

from __future__ import annotations

import asyncio
import shutil

import httpx2
import numpy as np
import pytest

from engines.remote.running import remote_engine, running_replica
from recordings import TEXT, speech
from servers import PATIENCE_S, ask, collect_stream, open_socket, running_server
from tts_provider.config import Limits
from tts_provider.engines.csm.adapters.low_rank import read_low_rank
from tts_provider.engines.csm.backend import DeviceLost, OutOfMemory
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.errors import EngineFailed, InvalidRequest
from tts_provider.speech.engine import History, Manner, Utterance
from tts_provider.voices.store import VoiceStore

from ..conftest import Kept, make_backend
from .trained import make, train_voice

FRAMES = 6


@pytest.fixture(scope="module")
def folders(small_model, tmp_path_factory):
    made = {name: tmp_path_factory.mktemp(name) for name in "ab"}
    for number, folder in enumerate(made.values()):
        train_voice(small_model, folder, number)
    return made


@pytest.fixture(scope="module")
def backend(small_folder, tmp_path_factory):
    return make("torch", small_folder, tmp_path_factory.mktemp("weights"), 4)


def make_engine(folder, backend, store, **options) -> CsmEngine:
    return CsmEngine(
        open_checkpoint(folder),
        folder / "tokenizer.json",
        lambda report: Kept(backend),
        device="cpu",
        precision="float32",
        codec="test",
        store=store,
        **options,
    )


async def start(folder, backend, store, **options) -> CsmEngine:
    engine = make_engine(folder, backend, store, **options)
    await engine.load(print)
    return engine


@pytest.fixture
def store(tmp_path):
    return VoiceStore(tmp_path / "data" / "voices", Limits())


@pytest.fixture
async def engine(small_folder, backend, store):
    made = await start(small_folder, backend, store)
    yield made
    await made.close()


async def codes_of(engine, voice, text="Hello there.") -> np.ndarray:
    history = History()
    manner = Manner(temperature=0.0, max_audio_ms=80 * FRAMES)
    async for _ in engine.speak(Utterance(text, voice, manner, history=history)):
        pass
    return history.segments[-1].codes


def expected_codes(backend, folder, adapter, config, speaker=0) -> np.ndarray:
    ids = Tokenizer(folder / "tokenizer.json", 128_256).encode("Hello there.", speaker)
    slot = backend.acquire(backend.load_adapter(read_low_rank(adapter, config)))
    backend.prefill(slot, text_prompt(ids, 32))
    sampler = Sampler(0, temperature=0)
    codes = np.array([backend.step([slot], [sampler])[0] for _ in range(FRAMES)])
    backend.release(slot)
    return codes


async def test_voices_speak_with_their_adapters_at_once_and_the_base_as_before(
    engine, store, folders, backend, small_folder
):
    config = open_checkpoint(small_folder).config
    base = engine.voices()[0]
    before = await codes_of(engine, base)
    voices = {
        (name, speaker): store.add(name, None, True, None, folder, speaker).voice.voice()
        for name, folder in folders.items()
        for speaker in (0, 7)
    }
    said = await asyncio.gather(
        *(codes_of(engine, voice) for voice in voices.values()), codes_of(engine, base)
    )
    for (name, speaker), codes in zip(voices, said, strict=False):
        expected = expected_codes(backend, small_folder, folders[name], config, speaker)
        assert np.array_equal(codes, expected)
    assert np.array_equal(said[-1], before)
    assert len({codes.tobytes() for codes in said}) == 5


async def test_with_a_recording_too_what_was_read_of_it_is_the_voices_own(engine, store, folders):
    """Three voices of one recording: the keys and values of its prompt differ by the adapter."""
    voices = [
        store.add("Ann", TEXT, True, speech(), adapter).voice.voice()
        for adapter in (folders["a"], folders["b"], None)
    ]
    said = [await codes_of(engine, voice) for voice in voices]
    assert len({codes.tobytes() for codes in said}) == 3
    kept = [key for key in engine._loop._prefixes if key.startswith("ann-")]
    assert len(kept) == 3
    assert sum(":" in key for key in kept) == 2
    for voice, codes in zip(voices, said, strict=True):
        assert np.array_equal(await codes_of(engine, voice), codes)  # from what was kept


async def test_a_voice_that_was_removed_speaks_no_more(engine, store, folders):
    voice = store.add("Ann", None, True, None, folders["a"]).voice
    await codes_of(engine, voice.voice())
    store.remove(voice.id)
    with pytest.raises(InvalidRequest, match="was removed"):
        await codes_of(engine, voice.voice())


@pytest.mark.parametrize(
    "error", [OutOfMemory("no memory"), DeviceLost("the GPU is gone")], ids=str
)
async def test_an_adapter_that_finds_no_memory_has_what_prompts_kept_and_a_lost_device_is_told(
    engine, store, folders, error
):
    voice, times = store.add("Ann", None, True, None, folders["a"]).voice.voice(), []
    load = engine._backend.load_adapter

    def fail_once(adapter):
        times.append(0)
        if len(times) == 1:
            raise error
        return load(adapter)

    engine._backend.load_adapter = fail_once
    if isinstance(error, OutOfMemory):
        assert len(await codes_of(engine, voice))
        assert len(times) == 2
    else:
        with pytest.raises(EngineFailed, match="the GPU is gone"):
            await codes_of(engine, voice)
        await asyncio.wait_for(engine.wait_lost(), PATIENCE_S)
        assert "the GPU is gone" in engine.problem.message


async def test_where_adapters_cannot_speak_it_is_said_and_recordings_can(
    small_folder, tmp_path, backend, store, folders
):
    adapted = store.add("Ann", TEXT, True, speech(), folders["a"]).voice.voice()
    plain = store.add("Ann", TEXT, True, speech()).voice.voice()
    onnx = make_backend(small_folder, tmp_path / "weights", "float32", slots=2)
    for where, options, words in (
        (onnx, {}, "ONNX Runtime, where voices cannot have adapters; run it in int8"),
        (backend, {"has_adapter": True}, "another adapter in it; start a server without --adapter"),
    ):
        engine = await start(small_folder, where, store, **options)
        with pytest.raises(InvalidRequest, match=words) as refusal:
            await codes_of(engine, adapted)
        assert refusal.value.code == "adapter_unsupported"
        assert "\n" not in refusal.value.message
        assert len(await codes_of(engine, plain)) == FRAMES
        await engine.close()
    onnx.close()


async def test_over_http_and_the_seeds_socket(small_folder, backend, store, folders, tmp_path):
    engine = make_engine(small_folder, backend, store)
    options = {"stream": True, "temperature": 0, "max_audio_length_ms": 80 * FRAMES}
    async with running_server(engine, data_dir=tmp_path / "data") as server:
        # Added while the server runs.
        voice = store.add("Ann", None, True, None, folders["a"]).voice
        broken = store.add("Bob", None, True, None, folders["b"]).voice
        shutil.rmtree(tmp_path / "data" / "voices" / broken.id / "adapter")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            listed = (await client.get("/v1/audio/voices")).json()["voices"]
            assert [(v["id"], v["has_adapter"]) for v in listed] == [
                *((each.id, False) for each in engine.voices()),
                (voice.id, True),
            ]
            speech_options = {"model": "csm", "input": "Hello.", "response_format": "wav"}
            heard = await client.post(
                "/v1/audio/speech", json={**speech_options, "voice": voice.id}
            )
            assert heard.status_code == 200
            refused = await client.post(
                "/v1/audio/speech", json={**speech_options, "voice": broken.id}
            )
            assert refused.status_code == 400
        async with open_socket(server) as socket:
            replies = []
            for name in (voice.id, "speaker-0", voice.id):
                reply = await ask(socket, text="Hello.", voice=name, **options)
                assert reply["status"] == "streaming", reply
                pieces, end = await collect_stream(socket)
                assert end["status"] == "success"
                replies.append(b"".join(pieces))
            assert replies[0] == replies[2] != replies[1]


@pytest.mark.filterwarnings("default::ResourceWarning")
async def test_through_a_gateway_it_is_the_same(engine, store, folders):
    voice = store.add("Ann", None, True, None, folders["a"]).voice.voice()
    async with running_replica(engine, store=store) as replica:
        async with remote_engine(replica.url) as remote:
            near, far = await codes_of(engine, voice), await codes_of(remote, voice)
    assert np.array_equal(near, far)
