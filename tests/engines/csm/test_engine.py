"""The engine on a small checkpoint: streams, seeds, guards, failures, and the real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing

import httpx2
import numpy as np
import pytest

import ears
from servers import (
    PATIENCE_S,
    collect_stream,
    open_socket,
    receive,
    running_server,
    send,
    server_process,
)
from tts_provider.engines.aligned import AlignedEngine
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.voice_prompts import builtin_voices
from tts_provider.engines.ensemble import Ensemble
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import EngineFailed, InvalidRequest, NoSpeech
from tts_provider.selection import Choice, build_engine
from tts_provider.server.service.service import SpeechService
from tts_provider.speech import pipeline
from tts_provider.speech.engine import History, Manner, Utterance
from tts_provider.speech.reading import AS_WRITTEN, read
from tts_provider.voices.builtin import Chosen

from .conftest import make_backend
from .small_csm import settings_of

SPEAKERS = builtin_voices(Chosen(None, None, []))

MS_A_FRAME = 80


class Backends:
    """The session's small backend, with faults that a test switches on."""

    def __init__(self, backend) -> None:
        self.backend = backend
        self.fail_prompt_of: int | None = None
        self.silent_steps = 0
        self.same_frame = False
        self.steps = 0
        self.step_error: BaseException | None = None
        self.encode_error: Exception | None = None
        self.encoding: Callable[[], object] = lambda: None

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def close(self):
        """The session's backend serves the next test too."""

    def prefill(self, slot, prompt):
        if len(prompt) == self.fail_prompt_of:
            raise RuntimeError("a broken prompt")
        self.backend.prefill(slot, prompt)

    def step(self, slots, samplers):
        self.steps += 1
        if self.step_error is not None:
            raise self.step_error
        codes = self.backend.step(slots, samplers)
        if self.silent_steps:
            self.silent_steps -= 1
            codes[:] = 0
        if self.same_frame:
            codes[:] = 7
        return codes

    def encode(self, samples):
        self.encoding()
        if self.encode_error is not None:
            raise self.encode_error
        return self.backend.encode(samples)


@pytest.fixture(scope="module")
def module_backend(small_folder, tmp_path_factory):
    return make_backend(small_folder, tmp_path_factory.mktemp("engine"), "float32", slots=4)


@pytest.fixture
def faults(module_backend):
    return Backends(module_backend)


@pytest.fixture(name="unloaded")
def make_unloaded(small_folder, faults):
    """For servers, which load it."""
    return CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: faults,
        device="cpu",
        codec="test",
        precision="float32",
    )


@pytest.fixture
async def engine(unloaded):
    await unloaded.load(print)
    yield unloaded
    await unloaded.close()


def utterance(text: str = "Hello there.", **options) -> Utterance:
    """`options` of its manner, or its history."""
    history = options.pop("history", History())
    manner = Manner(**({"seed": 1, "max_audio_ms": 800} | options))
    return Utterance(text, SPEAKERS[0], manner, history)


async def speak(engine, **options) -> np.ndarray:
    chunks = [chunk async for chunk in engine.speak(utterance(**options))]
    return np.concatenate([chunk.samples for chunk in chunks])


async def test_streaming_from_the_first_80_ms(engine):
    chunks = [chunk async for chunk in engine.speak(utterance())]
    assert len(chunks[0].samples) == 1920
    assert sum(len(chunk.samples) for chunk in chunks) == 10 * 1920


async def test_same_seed_same_audio_alone_in_company_and_another_differs(engine):
    alone = await speak(engine)
    assert np.array_equal(alone, await speak(engine))
    together = await asyncio.gather(
        *(speak(engine, text=f"Others {n}.", seed=n, max_audio_ms=400 + 160 * n) for n in range(9)),
        speak(engine),
    )
    assert np.array_equal(alone, together[-1])
    assert not np.array_equal(alone, await speak(engine, seed=2))


async def test_the_text_bounds_the_audio_unless_the_request_does(engine):
    assert len(await speak(engine, text="Hm.", max_audio_ms=None)) == 38 * 1920
    assert len(await speak(engine, text="Hm.", max_audio_ms=4000)) == 4000 * 24
    # Eight short words, a list's.
    assert len(await speak(engine, text="I a I a I a I a.", max_audio_ms=None)) == 75 * 1920


async def test_one_frame_again_and_again_ends_the_speech(engine, faults):
    faults.same_frame = True
    assert len(await speak(engine, max_audio_ms=8000)) == 12 * 1920


async def test_an_empty_reply_is_tried_once_more_with_another_seed(engine, faults):
    faults.silent_steps = 1
    assert len(await speak(engine)) == 10 * 1920
    faults.silent_steps = 2
    with pytest.raises(NoSpeech, match="another seed"):
        await speak(engine)
    faults.silent_steps = 1
    with pytest.raises(NoSpeech):
        await speak(engine, temperature=0.0)


async def test_one_failing_row_harms_nobody(engine, faults):
    alone = await speak(engine)
    broken = utterance("Broken!!")
    prompt, _ = engine._make_prompt(None, "Broken!!", 0, broken)
    faults.fail_prompt_of = len(prompt)
    good, bad = await asyncio.gather(
        speak(engine), speak(engine, text="Broken!!"), return_exceptions=True
    )
    assert np.array_equal(good, alone)
    assert isinstance(bad, EngineFailed)
    faults.fail_prompt_of = None
    assert np.array_equal(await speak(engine), alone)


async def test_cancelling_stops_within_two_steps_and_frees_the_slot(engine, faults):
    async with aclosing(engine.speak(utterance(max_audio_ms=60_000))) as chunks:
        await anext(chunks)
        await anext(chunks)
    before = faults.steps
    # Four slots, four others: they all get one only if it was given back.
    lengths = await asyncio.gather(*(speak(engine, max_audio_ms=80) for _ in range(4)))
    assert [len(samples) for samples in lengths] == [1920] * 4
    assert faults.steps - before <= 2 + 4


async def test_a_listener_who_does_not_listen_is_not_run_ahead_of(small_folder, faults):
    engine = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: faults,
        device="cpu",
        codec="test",
        precision="float32",
        max_ahead_s=0.8,
    )
    await engine.load(print)
    try:
        async with aclosing(engine.speak(utterance(max_audio_ms=60_000))) as chunks:
            await anext(chunks)
            before = faults.steps
            # Others speak many frames meanwhile; the one who is ahead makes ten at the most.
            await speak(engine, max_audio_ms=4000)
            assert faults.steps - before < 50 + 15
    finally:
        await engine.close()


async def test_sentences_are_spoken_with_the_last_ones_in_mind(engine):
    spoken = utterance("One thing. Another thing. A third thing.")
    chunks = [chunk async for chunk in pipeline.speak(engine, spoken, read(spoken.text))]
    assert chunks[-1].end <= 800 * 24
    long = utterance("One thing. Another thing. A third thing.", max_audio_ms=None)
    async for _ in pipeline.speak(engine, long, read(long.text)):
        pass
    segments = long.history.segments
    assert [segment.text for segment in segments] == [
        "One thing.",
        "Another thing.",
        "A third thing.",
    ]
    prompt, _ = engine._make_prompt(None, "More.", 0, long)
    bare, _ = engine._make_prompt(None, "More.", 0, utterance("More."))
    kept = sum(len(s.codes) + 1 for s in segments[-2:])
    assert len(prompt) > len(bare) + kept


async def test_numbers_become_words_before_the_model_reads_them(engine):
    engine_text = utterance("At 10:30, 5 apples")
    async for _ in pipeline.speak(engine, engine_text, read(engine_text.text)):
        pass
    (segment,) = engine_text.history.segments
    assert segment.text == "At ten thirty, five apples."


async def test_what_cannot_fit_is_refused_with_the_numbers(engine):
    with pytest.raises(InvalidRequest, match="the model has 2048"):
        await speak(engine, text="word " * 600)


async def test_closing_ends_those_who_speak(small_folder, faults):
    engine = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: faults,
        device="cpu",
        codec="test",
        precision="float32",
    )
    await engine.load(print)
    chunks = engine.speak(utterance(max_audio_ms=60_000))
    await anext(chunks)
    await engine.close()
    with pytest.raises(EngineFailed, match="stopping"):
        async for _ in chunks:
            pass

    with pytest.raises(EngineFailed, match="stopping"):
        await speak(engine)
    with pytest.raises(EngineFailed, match="stopping"):
        await engine.listen("Hello.", 0, np.zeros(1920, np.float32))


async def test_a_recording_that_cannot_be_encoded_ends_its_own_request_only(engine, faults):
    alone, second = await speak(engine), np.zeros(24_000, np.float32)
    faults.encode_error = RuntimeError("a broken codec")
    good, bad = await asyncio.gather(
        speak(engine), engine.listen("Hello.", 0, second), return_exceptions=True
    )
    assert np.array_equal(good, alone)
    assert isinstance(bad, EngineFailed)
    assert bad.message == "the voice could not be prepared: a broken codec"
    faults.encode_error = None
    assert len((await engine.listen("Hello.", 0, second)).codes) == 13


async def test_closing_ends_those_whose_recordings_wait_to_be_encoded(engine, faults):
    """With an error: to be cancelled would look like what their clients asked for."""
    begun, let_go = threading.Event(), threading.Event()
    faults.encoding = lambda: (begun.set(), let_go.wait(PATIENCE_S))
    second = np.zeros(24_000, np.float32)
    encoded, waiting, cancelled = (
        asyncio.create_task(engine.listen("Hello.", 0, second)) for _ in range(3)
    )
    await asyncio.to_thread(begun.wait, PATIENCE_S)
    cancelled.cancel()
    closing = asyncio.create_task(engine.close())
    with pytest.raises(EngineFailed, match="stopping"):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    let_go.set()
    await closing
    assert len((await encoded).codes) == 13


async def test_when_the_loop_ends_the_server_is_not_ready_and_says_so(unloaded, faults):
    espeak = EspeakEngine()
    both = AlignedEngine(Ensemble([unloaded, espeak]), [espeak])
    async with running_server(both) as server, open_socket(server) as socket:
        address = f"http://127.0.0.1:{server.port}/ready"
        async with httpx2.AsyncClient() as client:
            assert (await client.get(address)).json() == {"status": "ready"}
            assert (await client.get(address.replace("/ready", "/health"))).status_code == 200
            faults.step_error = SystemExit("out of its mind")
            sentence = "the model's loop ended (out of its mind); restart the server"
            for _ in range(2):  # who spoke then, and who comes later
                await send(socket, text="Hello.", speaker=0)
                assert (await receive(socket))["message"] == sentence
            answer = await client.get(address)
            assert (answer.status_code, answer.json()) == (503, {"status": "engine_failed"})
            # A liveness probe sees it too: only a restart helps.
            answer = await client.get(address.replace("/ready", "/health"))
            assert (answer.status_code, answer.json()) == (503, {"status": "engine_failed"})
        # Another engine's voices speak all the same.
        await send(socket, text="Hello.", voice="espeak:en-gb")
        assert (await receive(socket))["status"] == "success"
        assert isinstance(await receive(socket), bytes)


async def test_words_are_found_behind_the_speech(engine):
    """Untrained, it babbles: the words are somewhere, in order."""
    espeak = EspeakEngine()
    text = "One, two: three."
    asked = utterance(text, max_audio_ms=None)
    plain = [chunk async for chunk in engine.speak(asked)]
    asked = utterance(text, max_audio_ms=None, word_times=True)
    aligned = AlignedEngine(engine, [espeak]).speak(asked)
    *spoken, last = [chunk async for chunk in aligned]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(plain, spoken, strict=True))
    assert not any(chunk.words for chunk in spoken)
    assert [text[word.text_start : word.text_end] for word in last.words] == ["One", "two", "three"]
    assert all(word.is_estimated for word in last.words)
    edges = [edge for word in last.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= sum(len(chunk.samples) for chunk in spoken)


async def test_the_real_server_speaks_it(unloaded):
    async with running_server(unloaded) as server:
        async with open_socket(server) as first, open_socket(server) as second:
            for socket in (first, second):
                await send(socket, text="Hello.", seed=3, stream=True, max_audio_length_ms=1600)
            replies = []
            for socket in (first, second):
                assert (await receive(socket))["status"] == "streaming"
                replies.append(await collect_stream(socket))
            assert replies[0][1]["duration_ms"] == 1600
            assert b"".join(replies[0][0]) == b"".join(replies[1][0])


def test_reuse_mode_from_the_command_line_again_after_a_restart(small_folder, tmp_path):
    from tts_provider import TTSClient

    heard = []
    for _ in range(2):
        flags = ("--mode", "reuse", "--model-path", str(small_folder), "--precision", "float32")
        with server_process(tmp_path, *flags, "--data-dir", str(tmp_path / "data")) as server:
            with TTSClient(f"ws://127.0.0.1:{server.port}") as client:
                info = client.info()
                heard.append(client.speak("Hello.", seed=11, max_audio_length_ms=800))
            server.terminate()
            assert server.wait() == 0
            preparing = any("preparing" in line for line in server.log)
            assert preparing is (len(heard) == 1)
    assert (info["engine"], info["precision"]) == ("csm", "float32")
    assert heard[0] == heard[1]


def test_the_embedded_voices_stand_beside_csm(small_folder, tmp_path):
    from tts_provider import TTSClient

    flags = ("--mode", "reuse", "--model-path", str(small_folder), "--precision", "float32")
    folders = ("--data-dir", str(tmp_path / "data"))
    with (
        server_process(tmp_path, *flags, *folders, "--speak-while-loading") as server,
        TTSClient(f"ws://127.0.0.1:{server.port}") as client,
    ):
        voices = {voice["id"]: voice for voice in client.info()["voices"]}
        assert [voices[voice]["source"] for voice in ("speaker-0", "male", "espeak:de")] == (
            ["csm", "hibari", "espeak"]
        )
        assert [v["id"] for v in voices.values() if v["speaker"] is not None] == (
            ["speaker-0", "speaker-1"]
        )
        samples, rate = ears.read_wav(client.speak("seven eight nine", voice="male"))
        assert ears.hear_digits(samples, rate) == ["seven", "eight", "nine"]
        assert client.speak("Hello.", voice="speaker-1", seed=11, max_audio_length_ms=800)
        assert client.speak("It costs $5.", voice="speaker-1", seed=11, timestamps=True)
        assert [word.text for word in client.words] == ["It", "costs", "$5."]
        assert all(word.is_estimated for word in client.words)


def test_settings_say_what_a_fine_tune_knows(tmp_path):
    settings = settings_of("int8", tmp_path).model_copy(
        update={"speakers": (0, 4711), "model_language": "de", "model_acts": True}
    )
    engine = build_engine(Choice("csm", "the test"), settings)
    service = SpeechService(engine, settings)

    def heard(voice) -> list[str]:
        reader = service.new_reader(voice, AS_WRITTEN)
        return [p.spoken for p in reader.read("Ach <sigh> 12 [laughs] ja.")]

    own = service.find_voice(None, 4711)
    assert (own.id, own.speaker, own.language) == ("speaker-4711", 4711, "de")
    assert heard(own) == ["Ach <sigh> 12 [laughs] ja."], "no English numbers, and all tags"
    assert heard(service.find_voice("male", None)) == ["Ach twelve ja."]
    with pytest.raises(InvalidRequest, match="no speaker 1; this server has 0"):
        service.find_voice(None, 1)


async def test_a_fine_tunes_speakers_language_and_sampling(small_folder, faults):
    from tts_provider.engines.csm.sampling import Sampling

    made = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: faults,
        device="cpu",
        codec="test",
        precision="float32",
        model="someone/her-voice",
        speakers=(0, 4, 17),
        language="de",
        sampling=Sampling(0.0, 50, None, None),
    )
    await made.load(print)
    assert [(v.id, v.speaker, v.language) for v in made.voices()] == [
        ("speaker-0", 0, "de"),
        ("speaker-4", 4, "de"),
        ("speaker-17", 17, "de"),
    ]
    assert made.model == "someone/her-voice"

    async def say(seed: int, **options) -> np.ndarray:
        manner = Manner(seed=seed, max_audio_ms=400, **options)
        spoken = Utterance("Hallo.", made.voices()[2], manner)
        return np.concatenate([chunk.samples async for chunk in made.speak(spoken)])

    assert np.array_equal(await say(1), await say(2)), "the model's own: greedy"
    assert not np.array_equal(await say(1, temperature=0.9), await say(2, temperature=0.9))
    await made.close()
