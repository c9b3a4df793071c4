"""The embedded voice: understood, a man and a woman, repeatable, interruptible."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import shutil
import subprocess
import sys
import threading
from contextlib import aclosing

import espeakng_loader
import numpy as np
import pytest

import ears
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine, _library
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Utterance

MALE, FEMALE = VOICES
# Of RFC 5646 what espeak has: language, script, region, variants, private use.
TAG = re.compile(
    r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?(-[a-z0-9]{5,8})*(-x(-[a-z0-9]{1,8})+)?"
)
SENTENCE = "The quick brown fox jumps over the lazy dog, doesn't it?"


async def speak(text: str, voice=MALE) -> np.ndarray:
    engine = EspeakEngine()
    chunks = [chunk async for chunk in engine.speak(Utterance(text, voice))]
    return np.concatenate([chunk.samples for chunk in chunks])


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: voice.id)
async def test_a_recognizer_understands_ten_digit_strings(voice):
    draw = random.Random(20)
    errors = digits = 0
    for _ in range(10):
        said = draw.choices(ears.DIGITS, k=6)
        heard = ears.hear_digits(await speak(" ".join(said) + ".", voice))
        errors += ears.edit_distance(said, heard)
        digits += len(said)
    assert errors / digits <= 0.05


async def test_speaker_0_is_a_man_and_speaker_1_a_woman():
    male, female = await speak(SENTENCE, MALE), await speak(SENTENCE, FEMALE)
    assert 80 < ears.median_pitch_hz(male) < 140
    assert 175 < ears.median_pitch_hz(female) < 255


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: voice.id)
async def test_same_text_same_samples_whatever_was_said_before(voice):
    first = await speak(SENTENCE, voice)
    await speak("Something else entirely!", MALE)
    await speak("And another thing.", FEMALE)
    assert np.array_equal(first, await speak(SENTENCE, voice))


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: voice.id)
def test_same_samples_after_an_interruption_anywhere(voice):
    library = _library()

    def synthesize(stop_after: int | None = None) -> np.ndarray:
        heard, cancelled = [], threading.Event()

        def emit(item):
            heard.append(item[0])
            if len(heard) == stop_after:
                cancelled.set()

        job = library.thread.submit(library.synthesize, SENTENCE, voice, 1.0, cancelled, emit)
        job.result()
        return np.concatenate(heard)

    whole = synthesize()
    for stop_after in range(1, 40, 3):
        assert len(synthesize(stop_after)) < len(whole)
        assert np.array_equal(whole, synthesize())


async def test_closing_the_iterator_stops_the_engine():
    async with aclosing(EspeakEngine().speak(Utterance(SENTENCE * 5, FEMALE))) as chunks:
        await anext(chunks)
    assert len(await speak("Free again."))


async def test_sound_comes_while_it_is_made_and_is_not_clipped():
    chunks = [chunk async for chunk in EspeakEngine().speak(Utterance(SENTENCE, MALE))]
    assert len(chunks) > 20
    assert all(len(chunk.samples) < SAMPLE_RATE // 10 for chunk in chunks)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert samples.dtype == np.float32
    assert 0.2 < np.abs(samples).max() < 1.0
    assert 2.0 < len(samples) / SAMPLE_RATE < 5.0


async def test_utterances_side_by_side_do_not_mix():
    texts = [f"This is number {number}, and no other." for number in range(20)]
    alone = [await speak(text) for text in texts]
    together = await asyncio.gather(*(speak(text) for text in texts))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


async def test_markup_and_phoneme_brackets_are_spoken_not_obeyed():
    assert len(await speak("<break time='30s'/> hello [[h@loU]]")) < 10 * SAMPLE_RATE


_SPEAK_FROM = """
import sys, asyncio, espeakng_loader
espeakng_loader.get_data_path = lambda: sys.argv[1]
from tts_provider.engines.espeak.engine import EspeakEngine, VOICES
from tts_provider.speech.engine import Utterance
async def speak():
    chunks = [chunk async for chunk in EspeakEngine().speak(Utterance("Hello.", VOICES[0]))]
    print(sum(len(chunk.samples) for chunk in chunks))
asyncio.run(speak())
"""


def test_data_behind_a_long_path_is_read(tmp_path):
    """espeak cuts its data path off at 160 bytes; a deep virtual environment has more. In a
    process of its own, because the library is global."""
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    data = shutil.copytree(espeakng_loader.get_data_path(), deep / "espeak-ng-data")
    command = [sys.executable, "-c", _SPEAK_FROM, str(data)]
    spoken = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(spoken.stdout) > SAMPLE_RATE // 4


@pytest.mark.parametrize("voice", [MALE, FEMALE], ids=lambda voice: voice.id)
async def test_its_own_rate_keeps_the_pitch_and_is_forgotten(voice):
    async def spoken(speed: float) -> np.ndarray:
        chunks = EspeakEngine().speak(Utterance(SENTENCE * 3, voice, Manner(speed=speed)))
        return np.concatenate([chunk.samples async for chunk in chunks])

    normal = await spoken(1.0)
    for speed in EspeakEngine.speeds:
        other = await spoken(speed)
        assert len(normal) / len(other) == pytest.approx(speed, rel=0.12)
        assert ears.median_pitch_hz(other) == pytest.approx(ears.median_pitch_hz(normal), rel=0.05)
    assert np.array_equal(normal, await spoken(1.0))


_FROM_MANY_THREADS = """
import threading
from tts_provider.engines.espeak import engine as espeak
found = []
threads = [threading.Thread(target=lambda: found.append(espeak._library())) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(set(map(id, found))) == 1 and len(found) == 20
"""


def test_threads_that_ask_first_at_once_get_one_library():
    """Two of them in one process crash it."""
    command = [sys.executable, "-c", _FROM_MANY_THREADS]
    subprocess.run(command, check=True)


async def test_every_language_speaks_and_has_a_tag():
    engine = EspeakEngine()
    voices = engine.voices()[2:]
    assert len(voices) > 100
    assert len({voice.id for voice in voices}) == len(voices)
    for voice in voices:
        assert TAG.fullmatch(voice.language), voice
    tags = {voice.id: voice.language for voice in voices}
    assert tags["espeak:de"] == "de"
    assert tags["espeak:pt-br"] == "pt-BR"
    assert tags["espeak:cmn-latn-pinyin"] == "cmn-Latn-pinyin"
    for voice in voices:
        assert len(await speak("Hallo 1 2 3.", voice)) > SAMPLE_RATE // 4, voice


async def test_a_language_is_the_same_after_another():
    german = next(voice for voice in EspeakEngine().voices() if voice.id == "espeak:de")
    first = await speak("Guten Morgen, wie geht es dir?", german)
    english = await speak(SENTENCE)
    assert np.array_equal(first, await speak("Guten Morgen, wie geht es dir?", german))
    assert np.array_equal(english, await speak(SENTENCE))


async def test_words_have_their_place_in_the_text_and_on_the_timeline():
    text = "The “quick” twenty-one brown foxes, naïve café; don't jump."
    chunks = [chunk async for chunk in EspeakEngine().speak(Utterance(text, MALE))]
    words = [word for chunk in chunks for word in chunk.words]
    assert [text[word.text_start : word.text_end] for word in words] == (
        ["The", "quick", "twenty-one", "brown", "foxes", "naïve", "café", "don't", "jump"]
    )
    assert all(a.start < a.end <= b.start for a, b in itertools.pairwise(words))
    assert words[-1].end == sum(len(chunk.samples) for chunk in chunks)


async def test_voices_are_made_again_where_the_folder_was_tidied_up():
    first = await speak(SENTENCE)
    shutil.rmtree(_library()._folder.name)
    assert np.array_equal(first, await speak(SENTENCE))
