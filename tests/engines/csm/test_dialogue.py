"""Turns that hear one another: the toy's codes against transformers, what is heard, and for how
long."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

import ears
from lazy_import import lazy_import
from servers import running_server
from tts_provider.client import AsyncTTSClient
from tts_provider.engines.csm.engine import CsmEngine, with_speakers
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.speech import pipeline
from tts_provider.speech.dialogue import Dialogue
from tts_provider.speech.engine import MOST_HEARD, Engine, Manner, Spoken, Utterance
from tts_provider.speech.reading import read
from tts_provider.voices.enrolment import BETWEEN_VOICES_HZ

from .conftest import Kept, make_backend
from .small_csm import FOLDER, make_engine
from .test_parity import generate_after

torch = lazy_import("torch")
transformers = lazy_import("transformers")

CONVERSATION = (("Two, four.", 0), ("Nine.", 1), ("Six, one.", 0))
FRAMES = 60


@pytest.fixture(scope="module", name="backend")
def load_backend(small_folder, tmp_path_factory):
    return make_backend(small_folder, tmp_path_factory.mktemp("dialogue"), "float32", slots=4)


@pytest.fixture(name="engine")
async def load_engine(small_folder, backend):
    """Random weights, which say something else after something else; the toy that was trained says
    the words that it reads."""
    made = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: Kept(backend),
        device="cpu",
        codec="test",
        precision="float32",
    )
    await made.load(lambda told: None)
    yield made
    await made.close()


@pytest.fixture(name="trained")
async def load_trained(tmp_path):
    made = make_engine("torch", tmp_path)
    await made.load(lambda told: None)
    yield made
    await made.close()


async def spoken_by(engine: Engine, *said: tuple[str, int], **options) -> list[Spoken]:
    """What the engine remembers of a dialogue."""
    manner = Manner(**{"temperature": 0.0, **options})
    voices = {voice.speaker: voice for voice in engine.voices()}
    asked = tuple(Utterance(text, voices[speaker], manner) for text, speaker in said)
    turns = Dialogue.of(Dialogue(asked)).turns
    told = [pipeline.Turn(t, [*read(t.text)], number) for number, t in enumerate(turns)]
    async for _ in pipeline.speak_turns(engine, told, pause_s=0.1):
        pass
    return turns[0].history.segments


def by_transformers(model, folder, said: Sequence[tuple[str, int]], frames) -> list[np.ndarray]:
    """The codes of each turn, after all that was said before it."""
    tokenizer, heard, codes = Tokenizer(folder / "tokenizer.json", 128_256), [], []
    with torch.no_grad():
        for text, speaker in said:
            ids = torch.tensor([tokenizer.encode(text, speaker)])
            heard.append(model.embed_text_tokens(ids))
            codes.append(generate_after(model, torch.cat(heard, 1), frames))
            ended = np.pad(codes[-1], ((0, 1), (0, 0)))  # a frame of zeros is the end of audio
            heard.append(model.backbone_model.embed_tokens(torch.tensor(ended)[None]))
    return codes


async def test_a_dialogue_s_codes_are_those_of_transformers(engine, small_model, small_folder):
    frames = 38  # it never ends by itself, and so much a short text may be
    spoken = await spoken_by(engine, *CONVERSATION)
    expected = by_transformers(small_model, small_folder, CONVERSATION, frames)
    assert [(one.text, one.speaker) for one in spoken] == list(CONVERSATION)
    for one, codes in zip(spoken, expected, strict=True):
        assert np.array_equal(one.codes, codes)
    assert len(np.unique(np.concatenate(expected), axis=0)) > 20


async def test_the_trained_model_s_too_until_each_turn_ends(trained):
    spoken = await spoken_by(trained, *CONVERSATION)
    model = transformers.CsmForConditionalGeneration.from_pretrained(
        FOLDER, dtype=torch.float32
    ).eval()
    expected = by_transformers(model, FOLDER, CONVERSATION, FRAMES)
    for one, codes in zip(spoken, expected, strict=True):
        assert np.array_equal(one.codes, codes)
        assert 3 < len(codes) < FRAMES


async def test_another_first_turn_changes_the_second(engine):
    options = {"seed": 7, "temperature": 0.9}
    said = ("Two, four.", 0), ("Nine, six, one.", 1)
    alone = await spoken_by(engine, *said, **options)
    first, second, same = await asyncio.gather(
        spoken_by(engine, *said, **options),
        spoken_by(engine, ("Seven, eight.", 0), said[1], **options),
        spoken_by(engine, *said, **options),
    )
    assert not np.array_equal(first[1].codes, second[1].codes)
    for in_company in (first, same):
        for one, other in zip(in_company, alone, strict=True):
            assert np.array_equal(one.codes, other.codes)


async def test_the_oldest_turns_are_forgotten(engine):
    """The last segments are heard, as many as the model has room for, whole."""
    voices = engine.voices()
    text = "Now."
    asked = Utterance(text, voices[0])
    bare, _ = engine._make_prompt(None, text, 0, asked)

    def heard(frames: int, count: int) -> int:
        """How many turns of so many frames are in the prompt."""
        turns = Dialogue.of(Dialogue((asked,))).turns
        codes = np.ones((frames, engine._config.codebooks), np.int64)
        for number in range(count):
            turns[0].history.add(Spoken("One.", number % 2, codes, voices[number % 2].id))
        prompt, _ = engine._make_prompt(None, text, 0, turns[0])
        turn = len(engine._segment(turns[0].history.segments[0]))
        left = len(prompt) - len(bare)
        assert left % turn == 0
        return left // turn

    assert heard(10, 3) == 3
    assert heard(10, 40) == MOST_HEARD
    positions = engine._config.positions
    assert 0 < heard(positions // 4, 40) < 4
    assert heard(positions, 3) == 0


async def test_one_voice_hears_less_of_itself(engine):
    asked = Utterance("Now.", engine.voices()[0])
    for number in range(9):
        asked.history.add(
            Spoken(f"Number {number}.", 0, np.ones((4, engine._config.codebooks), np.int64))
        )
    assert len(asked.history.segments) == 9
    heard = dataclasses.replace(asked.history, heard=MOST_HEARD)
    prompts = [
        len(engine._make_prompt(None, "Now.", 0, dataclasses.replace(asked, history=history))[0])
        for history in (asked.history, heard)
    ]
    assert prompts[0] < prompts[1]


def test_voices_with_the_same_number_are_told_apart():
    codes = np.ones((2, 32), np.int64)
    said = [
        Spoken("a", 0, codes, "ann"),
        Spoken("b", 0, codes, "bob"),
        Spoken("c", 1, codes),  # as its client told it
        Spoken("d", 0, codes, "carl"),
        Spoken("e", 0, codes, "ann"),
    ]
    assert [s.speaker for s in with_speakers(said, "bob", 0)] == [2, 0, 1, 3, 2]
    assert [s.speaker for s in with_speakers(said, "eve", 0)] == [2, 3, 1, 4, 2]
    own = [Spoken("a", 0, codes, "speaker-0"), Spoken("b", 1, codes, "speaker-1")]
    assert [s.speaker for s in with_speakers(own, "speaker-1", 1)] == [0, 1]


async def test_a_conversation_is_heard_in_two_voices(tmp_path):
    """Each turn its words, by a man and a woman in turn."""
    turns = [
        {"text": "Seven, two, nine.", "speaker": 0},
        {"text": "Four, one, eight.", "speaker": 1},
        {"text": "Three, five.", "speaker": 0},
    ]
    options = {"data_dir": tmp_path, "watermark": "off"}
    async with running_server(make_engine("float32", tmp_path), **options) as server:
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}") as client:
            audio = await client.speak_dialogue(turns, seed=5, timestamps=True, pause_ms=200)
            words = client.words
    samples, _ = ears.read_wav(audio)
    assert ears.hear_words(samples) == ears.plain_words(" ".join(turn["text"] for turn in turns))
    assert [word.turn for word in words] == [0, 0, 0, 1, 1, 1, 2, 2]
    for number, turn in enumerate(turns):
        said = [word for word in words if word.turn == number]
        part = samples[24 * said[0].start_ms : 24 * said[-1].end_ms]
        assert (ears.median_pitch_hz(part) > BETWEEN_VOICES_HZ) == bool(turn["speaker"])
        assert {word.voice for word in said} == {f"speaker-{turn['speaker']}"}
