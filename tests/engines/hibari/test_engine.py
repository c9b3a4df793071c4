"""The embedded voice: understood word for word, a man and a woman, repeatable, interruptible."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import aclosing

import numpy as np
import pytest

import ears
from sentences import SENTENCES
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.engines.hibari.voice import VOICES
from tts_provider.errors import InvalidRequest
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Phonemes, Sound, Utterance
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.reading import ReadingOptions, read

MALE, FEMALE = VOICES
BOTH = pytest.mark.parametrize("voice", VOICES, ids=lambda voice: voice.id)
SENTENCE = "The quick brown fox jumps over the lazy dog, doesn't it?"


@pytest.fixture(scope="module")
def engine():
    engine = HibariEngine(read_model(), threads=2, foreign=EspeakEngine())
    asyncio.run(engine.load(lambda message: None))
    yield engine
    asyncio.run(engine.close())


async def chunks_of(engine, text: str, voice=MALE, seed: int | None = 1) -> list[Sound]:
    return [chunk async for chunk in engine.speak(Utterance(text, voice, Manner(seed=seed)))]


async def speak(engine, text: str, voice=MALE, seed: int | None = 1) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in await chunks_of(engine, text, voice, seed)])


@BOTH
async def test_a_recognizer_hears_every_word(engine, voice):
    for text in SENTENCES[:4]:
        assert ears.hear_words(await speak(engine, text, voice)) == ears.plain_words(text)


@BOTH
async def test_a_recognizer_understands_digit_strings(engine, voice):
    draw = random.Random(20)
    said = [draw.choices(ears.DIGITS, k=6) for _ in range(5)]
    heard = [ears.hear_digits(await speak(engine, " ".join(one) + ".", voice)) for one in said]
    errors = sum(map(ears.edit_distance, said, heard))
    assert errors / 30 <= 0.05


async def test_speaker_0_is_a_man_and_speaker_1_a_woman(engine):
    assert (MALE.speaker, FEMALE.speaker) == (0, 1)
    assert 90 < ears.median_pitch_hz(await speak(engine, SENTENCE, MALE)) < 145
    assert 165 < ears.median_pitch_hz(await speak(engine, SENTENCE, FEMALE)) < 255


@BOTH
async def test_level_and_silence_are_a_sentences(engine, voice):
    samples = await speak(engine, SENTENCE, voice)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() < 1.0
    heard = np.flatnonzero(np.abs(samples) > 0.01)
    assert heard[0] < SAMPLE_RATE * 40 // 1000
    assert SAMPLE_RATE // 5 < len(samples) - heard[-1] < SAMPLE_RATE // 2
    level_db = 20 * np.log10(np.sqrt(np.mean(samples**2)))
    assert -23 < level_db < -17


@BOTH
async def test_a_word_is_said_as_its_phonemes_are(engine, voice):
    """From a dictionary and from SSML; the times are of the words as they are written."""
    options = ReadingOptions(lexicon=Lexicon({"seven": "/tuː/", "new york": "/ˈθri faɪv/"}))
    texts = {
        "nine seven eight seven five": (options, "nine two eight two five"),
        "nine New York eight": (options, "nine three five eight"),
        'one <phoneme alphabet="ipa" ph="ˈsɛvən">two</phoneme> five': (
            ReadingOptions(ssml=True),
            "one seven five",
        ),
    }
    for text, (how, said) in texts.items():
        (passage,) = read(text, how)
        utterance = Utterance(passage.spoken, voice, Manner(seed=1), phonemes=passage.phonemes)
        chunks = [chunk async for chunk in engine.speak(utterance)]
        assert ears.hear_digits(np.concatenate([c.samples for c in chunks])) == said.split()
        times = [word for chunk in chunks for word in chunk.words]
        timed = [passage.spoken[word.text_start : word.text_end] for word in times]
        assert timed == passage.spoken.split()
        assert all(a.end <= b.start for a, b in itertools.pairwise(times))


async def test_a_word_with_a_sound_that_is_no_english_is_said_as_it_is_written(engine):
    odd = Utterance("one two three", MALE, Manner(seed=1), phonemes=(Phonemes(4, 7, "tyχ"),))
    samples = np.concatenate([chunk.samples async for chunk in engine.speak(odd)])
    assert np.array_equal(samples, await speak(engine, "one two three"))


async def test_sound_comes_while_it_is_made(engine):
    chunks = await chunks_of(engine, SENTENCE)
    assert len(chunks) > 5
    assert all(0 < len(chunk.samples) < SAMPLE_RATE for chunk in chunks)


@BOTH
async def test_same_text_and_seed_same_samples_alone_and_in_company(engine, voice):
    texts = [f"This is number {word}, and no other." for word in ears.DIGITS]
    alone = [await speak(engine, text, voice) for text in texts]
    together = await asyncio.gather(*(speak(engine, text, voice) for text in texts))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], await speak(engine, texts[0], voice, seed=2))
    unseeded = await speak(engine, texts[0], voice, seed=None)
    assert np.array_equal(unseeded, await speak(engine, texts[0], voice, seed=None))


async def test_closing_the_iterator_ends_the_work(engine):
    long = " ".join(SENTENCES[:20])
    for _ in range(3):
        speaking = engine.speak(Utterance(long, FEMALE))
        async with aclosing(speaking):
            await anext(speaking)
    assert len(await speak(engine, "Free again."))


async def test_cancelled_while_the_graph_runs_it_ends_in_the_graph(engine):
    """Nothing was emitted yet: the run itself is ended, and the thread is free."""
    task = asyncio.create_task(speak(engine, " ".join(SENTENCES[:6])))
    threads = engine._pools.listened
    while not threads._work_queue.empty() or not threads._threads:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await speak(engine, "Free again."))


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.5, 2.0])
@BOTH
async def test_speed_is_kept_within_three_percent(engine, voice, speed):
    async def spoken(speed: float) -> np.ndarray:
        utterance = Utterance(SENTENCE, voice, Manner(seed=1, speed=speed))
        items = pipeline.speak(engine, utterance, read(SENTENCE))
        return np.concatenate([chunk.samples async for chunk in items])

    normal, other = await spoken(1.0), await spoken(speed)
    assert len(normal) / len(other) == pytest.approx(speed, rel=0.03)
    assert ears.median_pitch_hz(other) == pytest.approx(ears.median_pitch_hz(normal), rel=0.08)


@BOTH
async def test_words_have_their_place_in_the_text_and_on_the_timeline(engine, voice):
    text = "Well, the “quick” twenty-one foxes — don't they — jump over naïve dogs."
    chunks = await chunks_of(engine, text, voice)
    words = [word for chunk in chunks for word in chunk.words]
    assert [text[word.text_start : word.text_end] for word in words] == (
        [
            "Well",
            "the",
            "quick",
            "twenty-one",
            "foxes",
            "don't",
            "they",
            "jump",
            "over",
            "naïve",
            "dogs",
        ]
    )
    assert all(word.start < word.end for word in words)
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    assert words[-1].end <= sum(len(chunk.samples) for chunk in chunks)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    for word in words:  # where a word is, there is sound
        assert np.abs(samples[word.start : word.end]).max() > 0.05


@BOTH
async def test_a_word_that_hisses_begins_with_its_hiss(engine, voice):
    """Between vowels and nasals nothing else is above 4.5 kHz."""
    text = "My sun may sit now, so you may say more sad rhymes."
    chunks = await chunks_of(engine, text, voice)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    frames = np.lib.stride_tricks.sliding_window_view(samples, 240)[::120] * np.hanning(240)
    power = (np.abs(np.fft.rfft(frames)) ** 2)[:, 45:].sum(axis=1)
    loud = power > power.max() / 100
    begins = [at for at in range(8, len(loud)) if loud[at] and not loud[at - 8 : at].any()]
    words = [word for chunk in chunks for word in chunk.words if text[word.text_start] == "s"]
    errors = [min(abs(120 * at - word.start) for at in begins) for word in words]
    assert len(errors) == 5
    assert np.median(errors) < SAMPLE_RATE * 50 // 1000


async def test_a_recognizer_hears_the_words_where_they_say(engine):
    chunks = await chunks_of(engine, SENTENCES[3], FEMALE)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    words = [word for chunk in chunks for word in chunk.words]
    said = ears.plain_words(SENTENCES[3])
    assert ears.hear_words(samples[: words[4].end]) == said[:5]
    assert ears.hear_words(samples[words[5].start :]) == said[5:]


HARD = {
    "300 digits": "1" * 300,
    "300 letters": "a" * 300,
    "no full stop": " ".join(["word"] * 60),
    "emoji between": "Hello 😀 there 👩‍👩‍👧 again",
    "mathematical letters": "𝐇𝐞𝐥𝐥𝐨 there",
    "combining marks": "cafe\u0301 nai\u0308ve",
    "zero width": "\u200bzero\u200b width\u2060 joiner",
    "symbols": "a = b < c > d | e ~ f ^ g",
    "one letter": "x",
    "control characters": "one\x00 two\x07 three",
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
async def test_hard_text_is_spoken(engine, text):
    samples = await speak(engine, text, FEMALE)
    assert np.abs(samples).max() > 0.05
    assert np.isfinite(samples).all()


async def test_pronunciation_markup_of_a_user_is_read_not_obeyed(engine):
    plain = await speak(engine, "say (hello)(/w/) now", FEMALE)
    assert np.array_equal(plain, await speak(engine, "say [hello](/w/) now", FEMALE))


@pytest.mark.parametrize("text", ["😀 👍", "…", "!!!", ""])
async def test_text_without_words_is_silence(engine, text):
    assert not await chunks_of(engine, text)


OTHER_SCRIPTS = {
    "Russian": "Привет, мир",
    "Chinese": "你好世界",
    "Japanese": "こんにちは、日本",
    "Arabic": "مرحبا بالعالم",
    "in the middle": "Say привет to everyone.",
}


@pytest.mark.parametrize("text", OTHER_SCRIPTS.values(), ids=OTHER_SCRIPTS)
async def test_other_scripts_are_spoken_by_espeak(engine, text):
    chunks = await chunks_of(engine, text, FEMALE)
    words = [text[word.text_start : word.text_end] for chunk in chunks for word in chunk.words]
    assert words
    assert set("".join(words)) <= set(text)
    assert np.abs(np.concatenate([chunk.samples for chunk in chunks])).max() > 0.1


@pytest.mark.parametrize("text", OTHER_SCRIPTS.values(), ids=OTHER_SCRIPTS)
async def test_without_espeak_other_scripts_are_an_error_that_says_so(engine, text):
    alone = HibariEngine(read_model(), threads=1)
    alone._graph, alone._phonemizer = engine._graph, engine._phonemizer
    with pytest.raises(InvalidRequest, match="cannot read") as caught:
        await chunks_of(alone, text)
    assert caught.value.code == "unreadable_text"
    assert "tts-provider[espeak]" in caught.value.message
    await alone.close()


async def test_a_script_that_nobody_reads_is_an_error(engine):
    with pytest.raises(InvalidRequest, match="cannot read"):
        await chunks_of(engine, "ᚠᚢᚦᚨᚱᚲ")
