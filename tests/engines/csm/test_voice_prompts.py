"""Voices on a small checkpoint: what the model hears before it speaks, and that it is kept."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import aclosing

import numpy as np
import pytest

from servers import ask, collect_stream, open_socket, receive, running_server, send
from tts_provider.audio.pcm import to_s16, wav_header
from tts_provider.config import Limits
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.engines.espeak.engine import VOICES as ESPEAK_VOICES
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import History, Manner, Utterance
from tts_provider.voices.builtin import Candidate, Chosen
from tts_provider.voices.store import VoiceStore

from .conftest import make_backend
from .test_parity import generate_after_audio

FRAMES = 12
TRANSCRIPT = "All passed so quickly, there was so much going on around him."


@pytest.fixture(scope="module")
def backend(small_folder, tmp_path_factory):
    return make_backend(small_folder, tmp_path_factory.mktemp("voices"), "float32", slots=4)


class Watched:
    """The module's backend; it counts what it is given to read."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self.read_frames: list[int] = []
        self.encoded = 0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def close(self):
        """The module's backend serves the next test too."""

    def prefill(self, slot, prompt):
        self.read_frames.append(len(prompt))
        self._backend.prefill(slot, prompt)

    def encode(self, samples):
        self.encoded += 1
        return self._backend.encode(samples)


async def said_by_espeak(text: str, speaker: int) -> np.ndarray:
    utterance = Utterance(text, ESPEAK_VOICES[speaker])
    return np.concatenate([chunk.samples async for chunk in EspeakEngine().speak(utterance)])


@pytest.fixture
async def recorded() -> list[np.ndarray]:
    return [await said_by_espeak(TRANSCRIPT, speaker) for speaker in (0, 1)]


@pytest.fixture
def watched(backend):
    return Watched(backend)


@pytest.fixture(name="unloaded")
def make_unloaded(small_folder, watched, recorded, tmp_path):
    """For servers, which load it."""
    chosen = Chosen(
        Candidate("low", TRANSCRIPT, recorded[0], 105.0),
        Candidate("high", TRANSCRIPT, recorded[1], 200.0),
        [],
    )
    return CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: watched,
        device="cpu",
        codec="test",
        precision="float32",
        prompts=chosen,
        store=VoiceStore(tmp_path / "voices", Limits()),
    )


@pytest.fixture
async def engine(unloaded):
    await unloaded.load(print)
    yield unloaded
    await unloaded.close()


async def codes_of(engine, text: str, voice, history: History | None = None) -> np.ndarray:
    history = history or History()
    utterance = Utterance(
        text, voice, Manner(temperature=0.0, max_audio_ms=80 * FRAMES), history=history
    )
    async for _ in engine.speak(utterance):
        pass
    return history.segments[-1].codes


def transformers_ids(model, folder, *segments: tuple[str, int, int]) -> list[int]:
    """Ids of a conversation: text, speaker and frames of audio each; 0 is the text to speak."""
    tokenizer, ids = Tokenizer(folder / "tokenizer.json", 128_256), []
    for text, speaker, frames in segments:
        ids += tokenizer.encode(text, speaker)
        if frames:
            ids += [model.config.audio_token_id] * frames + [model.config.audio_eos_token_id]
    return ids


def test_the_voices_say_who_they_are(engine):
    low, high = engine.voices()
    assert (low.id, low.gender, low.speaker) == ("speaker-0", "male", 0)
    assert (high.id, high.gender, high.speaker) == ("speaker-1", "female", 1)


async def test_with_a_prompt_the_codes_are_those_of_transformers(
    engine, small_model, small_folder, recorded
):
    frames = -(-len(recorded[1]) // 1920)
    ids = transformers_ids(
        small_model, small_folder, (TRANSCRIPT, 1, frames), ("Hello there.", 1, 0)
    )
    expected = generate_after_audio(small_model, ids, recorded[1], FRAMES)
    codes = await codes_of(engine, "Hello there.", engine.voices()[1])
    assert np.array_equal(codes, expected)


async def test_a_conversation_is_the_prompt_then_the_last_segments_of_both_sides(
    engine, small_model, small_folder, recorded, watched
):
    voice = engine.voices()[0]
    history = History()
    history.add(await engine.listen("What is your name?", 1, recorded[1][:48_000]))
    first = await codes_of(engine, "It is Ann.", voice, history)
    assert history.count == 2
    watched.read_frames.clear()
    await codes_of(engine, "And yours?", voice, history)
    tokenizer = Tokenizer(small_folder / "tokenizer.json", 128_256)
    texts = (("What is your name?", 1), ("It is Ann.", 0), ("And yours?", 0))
    tokens = sum(len(tokenizer.encode(*text)) for text in texts)
    # The prompt is there already; each of the two spoken segments ends with a frame of its own.
    assert sum(watched.read_frames) == tokens + 25 + 1 + len(first) + 1


async def test_prompts_are_read_at_the_start_and_copied_afterwards(engine, watched, small_folder):
    assert watched.encoded == 2
    watched.read_frames.clear()
    tokenizer = Tokenizer(small_folder / "tokenizer.json", 128_256)
    for voice in engine.voices():
        await codes_of(engine, "Hello there.", voice)
        assert sum(watched.read_frames) == len(tokenizer.encode("Hello there.", voice.speaker))
        watched.read_frames.clear()
    assert watched.encoded == 2


async def test_a_kept_prefix_changes_nothing(engine, watched):
    voice = engine.voices()[0]
    kept = await codes_of(engine, "Hello there.", voice)
    engine._loop._prefixes.clear()
    watched.read_frames.clear()
    assert np.array_equal(kept, await codes_of(engine, "Hello there.", voice))
    assert sum(watched.read_frames) > 50


async def test_an_enrolled_voice_speaks_and_is_encoded_once(engine, watched, recorded, tmp_path):
    store = VoiceStore(tmp_path / "voices", Limits())
    voice = store.add("Ann", TRANSCRIPT, True, recorded[1]).voice.voice()
    enrolled = await codes_of(engine, "Hello there.", voice)
    assert watched.encoded == 3
    assert np.array_equal(enrolled, await codes_of(engine, "Hello there.", voice))
    assert watched.encoded == 3
    assert not np.array_equal(enrolled, await codes_of(engine, "Hello there.", engine.voices()[0]))


async def test_an_enrolled_voices_codes_outlive_the_server_but_not_the_voice(
    engine, watched, recorded, tmp_path
):
    store = VoiceStore(tmp_path / "voices", Limits())
    voice = store.add("Ann", TRANSCRIPT, True, recorded[1]).voice.voice()
    first = await codes_of(engine, "Hello there.", voice)
    engine._prompts._spoken.clear()
    engine._loop._prefixes.clear()
    assert np.array_equal(first, await codes_of(engine, "Hello there.", voice))
    assert watched.encoded == 3
    (kept,) = (tmp_path / "voices" / voice.id).glob("codes-*.npy")
    kept.write_bytes(kept.read_bytes()[:-7])  # cut short: they are made again
    engine._prompts._spoken.clear()
    engine._loop._prefixes.clear()
    assert np.array_equal(first, await codes_of(engine, "Hello there.", voice))
    assert watched.encoded == 4
    store.remove(voice.id)
    assert not list((tmp_path / "voices").rglob("*.npy"))


async def test_an_enrolled_voice_that_was_removed_meanwhile(engine, recorded, tmp_path):
    store = VoiceStore(tmp_path / "voices", Limits())
    voice = store.add("Ann", TRANSCRIPT, True, recorded[1]).voice
    store.remove(voice.id)
    with pytest.raises(InvalidRequest, match="removed") as caught:
        await codes_of(engine, "Hello there.", voice.voice())
    assert caught.value.code == "unknown_voice"


async def test_context_over_the_wire(unloaded, recorded):
    wav = wav_header(24_000, 2 * 24_000) + to_s16(recorded[1][:24_000])
    said = {"speaker": 1, "text": "What is your name?", "audio": base64.b64encode(wav).decode()}
    options = {"stream": True, "temperature": 0, "max_audio_length_ms": 2400, "text": "It is Ann."}
    async with running_server(unloaded, max_message_bytes=1_000_000) as server:
        async with open_socket(server) as socket:
            replies = []
            for context in ([], [said]):
                assert (await ask(socket, context=context, **options))["status"] == "streaming"
                pieces, end = await collect_stream(socket)
                assert end["status"] == "success"
                replies.append(b"".join(pieces))
            assert replies[0] != replies[1]
            bad = {**said, "audio": base64.b64encode(b"nothing").decode()}
            error = await ask(socket, context=[bad], **options)
            assert (error["status"], error["code"]) == ("error", "unsupported_audio")
            error = await ask(socket, context=["Hi."], **options)
            assert (error["status"], error["code"]) == ("error", "invalid_type")


async def test_the_other_sides_audio_in_a_session(unloaded, recorded):
    wav = wav_header(24_000, 2 * 24_000) + to_s16(recorded[1][:24_000])
    audio = base64.b64encode(wav).decode()
    async with running_server(unloaded) as server:
        async with open_socket(server, path="v1/stream") as socket:
            await receive(socket)
            heard = {}
            for name, context in (("alone", False), ("after", True)):
                await send(socket, type="session.update", temperature=0)
                if context:
                    message = {"context_id": name, "text": "What?", "audio": audio, "speaker": 1}
                    await send(socket, type="context.append_audio", **message)
                await send(socket, type="input_text.append", context_id=name, text="It is Ann.")
                await send(socket, type="input_text.end", context_id=name)
                heard[name] = b""
                while (body := await receive(socket))["type"] != "context.done":
                    assert body["type"] != "error", json.dumps(body)
                    if body["type"] == "audio.delta":
                        heard[name] += base64.b64decode(body["audio"])
            assert heard["alone"] != heard["after"]


async def test_what_was_said_while_the_model_loads_is_listened_to(small_folder, watched, recorded):
    gate = threading.Event()

    def build(report):
        gate.wait()
        return watched

    slow = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        build,
        device="cpu",
        codec="test",
        precision="float32",
    )
    wav = wav_header(24_000, 2 * 24_000) + to_s16(recorded[1][:24_000])
    audio = base64.b64encode(wav).decode()
    async with running_server(slow, is_ready=False) as server:
        async with open_socket(server, path="v1/stream") as socket:
            assert (await receive(socket))["type"] == "session.created"
            assert (await receive(socket))["type"] == "session.loading"
            told = {"context_id": "c", "text": "What?", "audio": audio}
            await send(socket, type="context.append_audio", **told)
            await send(socket, type="context.append_audio", **{**told, "text": "..."})
            await send(socket, type="input_text.append", context_id="c", text="It is Ann.")
            await send(socket, type="input_text.end", context_id="c")
            gate.set()
            kinds = []
            while not kinds or kinds[-1] != "context.done":
                body = await receive(socket)
                kinds.append(body["type"])
                if body["type"] == "error":
                    assert body["code"] == "no_speech", body
            assert kinds.count("error") == 1
            assert "audio.segment" in kinds


async def test_a_length_beyond_all_bounds(engine):
    utterance = Utterance("Hm.", engine.voices()[0], Manner(temperature=0.0, max_audio_ms=10**400))
    async with aclosing(engine.speak(utterance)) as chunks:
        assert len((await anext(chunks)).samples)


async def test_the_embedded_voice_does_not_listen(recorded):
    wav = wav_header(24_000, 2 * 24_000) + to_s16(recorded[1][:24_000])
    said = {"text": "What?", "audio": base64.b64encode(wav).decode()}
    async with running_server(max_message_bytes=1_000_000) as server, open_socket(server) as socket:
        error = await ask(socket, text="Hello.", context=[said])
        assert error["code"] == "context_needs_csm"
