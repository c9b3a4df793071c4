"""The trained model of twenty words through the real server: what is heard, in whose voice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest

import ears
from lazy_import import lazy_import
from server.dialects.test_voices import enrol
from servers import running_server
from tts_provider.client import AsyncTTSClient
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.server.lifecycle import Server
from tts_provider.voices.enrolment import BETWEEN_VOICES_HZ

from .conftest import make_torch_backend
from .small_csm import DIGITS, FOLDER, WORDS, make_engine
from .test_parity import generate, speak

torch = lazy_import("torch")
transformers = lazy_import("transformers")

LISTS = (
    "Seven, two, nine, four, one, eight.",
    "three zero six five",
    "Hello! Stop, red dog.",
)
EIGHT = [" ".join(DIGITS[start:] + DIGITS[:start][: start - 2]) for start in range(2, 10)]
# All that is heard here is codes and their sound, which test_parity.py compares with transformers'.
SLOW = pytest.mark.slow("5 to 15 s each: what a reader of logits would miss, in every precision")


def kinds(quick: str, *others: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "kind", [quick, *(pytest.param(kind, marks=SLOW) for kind in others)]
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("small-csm")


@contextlib.asynccontextmanager
async def speaking(kind: str, data_dir) -> AsyncIterator[tuple[Server, AsyncTTSClient]]:
    # Its codec knows the words that it learned and little else: a mark on what it hears again, of a
    # voice or a conversation, is too much for it.
    options = {"data_dir": data_dir, "watermark": "off"}
    async with running_server(make_engine(kind, data_dir), **options) as server:
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}") as client:
            yield server, client


async def hear(client: AsyncTTSClient, text: str, **options) -> np.ndarray:
    samples, rate = ears.read_wav(await client.speak(text, **{"seed": 5, **options}))
    assert rate == 24_000
    return samples


def words_of(text: str) -> list[str]:
    return ears.plain_words(text)


def is_woman(samples: np.ndarray) -> bool:
    return ears.median_pitch_hz(samples) > BETWEEN_VOICES_HZ


def seconds(samples: np.ndarray) -> float:
    return len(samples) / 24_000


# Who says what: each list once in the quick kind, everybody everything in the slow ones.
EVERYBODY = [(speaker, text) for speaker in (0, 1) for text in LISTS]
SPOKEN = {"int4": EVERYBODY[::2]} | dict.fromkeys(("float32", "int8", "torch"), EVERYBODY)


@kinds("int4", "float32", "int8", "torch")
async def test_both_speakers_say_the_words_and_stop(kind, data_dir):
    said, heard = [], []
    async with speaking(kind, data_dir) as (_, client):
        for speaker, text in SPOKEN[kind]:
            samples = await hear(client, text, speaker=speaker)
            assert is_woman(samples) == bool(speaker)
            # A word takes 0.4 to 0.6 s and its pause 0.16 s; without an end it is 3 s or more.
            assert seconds(samples) < 0.8 * len(words_of(text))
            said += words_of(text)
            heard += await asyncio.to_thread(ears.hear_words, samples)
    assert ears.edit_distance(said, heard) <= 1


@kinds("torch", "float32")
async def test_streamed_or_whole_alone_or_among_eight(kind, data_dir):
    async with speaking(kind, data_dir) as (server, client):
        whole = await hear(client, EIGHT[0])
        pcm = b"".join([data async for data in client.stream(EIGHT[0], seed=5)])
        streamed = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        assert ears.edit_distance(ears.hear_words(streamed), words_of(EIGHT[0])) <= 1
        assert len(streamed) == len(whole)

        async def one(number: int) -> np.ndarray:
            async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}") as own:
                return await hear(own, EIGHT[number], speaker=number % 2)

        together = await asyncio.gather(*map(one, range(8)))
    # The same codes; PyTorch's convolutions round in company as they do not alone.
    assert np.allclose(together[0], whole, atol=1e-3)
    for number in (1, 6):
        # One word in thirty is another than was written.
        assert ears.edit_distance(ears.hear_words(together[number]), words_of(EIGHT[number])) <= 1
        assert is_woman(together[number]) == bool(number % 2)


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("int8", "female"),
        *(
            pytest.param(*both, marks=SLOW)
            for both in (("int8", "male"), ("float32", "female"), ("float32", "male"))
        ),
    ],
)
async def test_an_enrolled_voice_is_whose_it_is(kind, reader, data_dir):
    read = "Zero, one, two, three, four, five, six, seven, eight, nine, stop."
    async with speaking(kind, data_dir) as (server, client):
        recording = await client.speak(read, voice=reader)
        fields = {"name": reader, "transcript": read, "consent": "true", "audio": recording}
        status, voice = await enrol(server, tuple(fields.items()))
        assert (status, voice["gender"]) == (201, reader)
        for text in LISTS[:2]:
            samples = await hear(client, text, voice=voice["id"])
            assert is_woman(samples) == (reader == "female")
            assert ears.hear_words(samples) == words_of(text)


NATURAL = (
    "She says that the water was cleaner when she was young, and that the trains ran on time. I "
    "listen, because she likes to talk, and because most of what she says is true."
)


@pytest.mark.parametrize("as_speaker", [0, 1])
async def test_a_long_recording_of_any_words_gives_its_voice(as_speaker, data_dir):
    """8 to 10 s, by readers it has heard of words it has not, as either speaker."""
    async with speaking("float32", data_dir) as (_, client):
        right = []
        for reader in ("male", "female"):
            recording = await client.speak(NATURAL, voice=reader)
            samples, rate = ears.read_wav(recording)
            assert 8 <= len(samples) / rate <= 20
            audio = base64.b64encode(recording).decode()
            context = [{"speaker": as_speaker, "text": NATURAL, "audio": audio}]
            for seed in (1, 2, 3):
                options = {"speaker": as_speaker, "context": context, "seed": seed}
                answer = await hear(client, "Seven, eight, six.", **options)
                right.append(is_woman(answer) == (reader == "female"))
        assert sum(right) >= 5


@kinds("float32", "torch")
async def test_a_conversation_s_second_turn_keeps_the_voice(kind, data_dir):
    async with speaking(kind, data_dir) as (_, client):
        for speaker in (0, 1):
            first = await client.speak("One, three, five.", speaker=speaker, seed=5)
            other = await client.speak("Nine, four.", speaker=1 - speaker, seed=6)
            context = [
                {"speaker": who, "text": text, "audio": base64.b64encode(audio).decode()}
                for who, text, audio in (
                    (speaker, "One, three, five.", first),
                    (1 - speaker, "Nine, four.", other),
                )
            ]
            # One seed in twelve or so takes the other's voice: so small is the model.
            options = {"speaker": speaker, "context": context, "seed": 7}
            answer = await hear(client, "Seven, eight, six.", **options)
            assert is_woman(answer) == bool(speaker)
            assert ears.hear_words(answer) == ["seven", "eight", "six"]


async def test_sentences_one_after_another(data_dir):
    text = "Four, six, two. Eight, three, nine. Seven, five, one."
    async with speaking("int8", data_dir) as (_, client):
        samples = await hear(client, text, speaker=1)
    assert ears.hear_words(samples) == words_of(text)
    half = len(samples) // 2
    assert is_woman(samples[:half])
    assert is_woman(samples[half:])


async def test_a_word_that_it_does_not_know(data_dir):
    async with speaking("int8", data_dir) as (_, client):
        samples = await hear(client, "Red marmalade, seven.", speaker=1)
    assert ears.hear_words(samples) == ["red", "what", "seven"]


def test_transformers_says_the_same():
    theirs = transformers.CsmForConditionalGeneration
    model = theirs.from_pretrained(FOLDER, dtype=torch.float32).eval()
    ids = Tokenizer(FOLDER / "tokenizer.json", model.config.text_vocab_size).encode("Six, two.", 1)
    expected = generate(model, 60, input_ids=torch.tensor([ids]))
    assert 10 < len(expected) < 40, "it does not stop"
    backend = make_torch_backend(FOLDER, slots=1)
    codes = speak(backend, text_prompt(ids, 8), len(expected))
    assert np.array_equal(codes, expected)
    # The last frame is the end; the sound of those before it.
    with torch.no_grad():
        sound = model.codec_model.decode(torch.from_numpy(codes[:-1].T[None])).audio_values[0, 0]
    assert not codes[-1].any()
    assert ears.hear_words(sound.numpy()) == ["six", "two"]


def test_it_is_small_enough_to_be_kept_with_the_code():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000
    assert open_checkpoint(FOLDER).config.codebooks == 8
    tokens = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    marks = {"[", "]", "0", "1", "<|begin_of_text|>", "<|end_of_text|>"}
    assert set(tokens) - marks == {*WORDS, "what"}
