"""The real Kokoro-82M: heard word for word, in time, the same each time, without a seam.

It is 90 MB to fetch, and a second of speech is half a second of CPU: `make test` leaves it out.
"""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

import ears
from engines.kokoro.real_kokoro import real_kokoro
from sentences import SENTENCES
from tts_provider.engines.kokoro.engine import KokoroEngine
from tts_provider.engines.kokoro.files import find_folder
from tts_provider.engines.kokoro.network.graph import FRAME_SAMPLES, begin_inference
from tts_provider.engines.kokoro.network.prepared import prepare
from tts_provider.engines.kokoro.performance import chunks
from tts_provider.engines.kokoro.phonemes.alphabet import encode
from tts_provider.onnx_threads import single_thread_options
from tts_provider.speech.engine import SAMPLE_RATE, Sound, Utterance

pytestmark = pytest.mark.slow(
    "a minute, and 120 MB to fetch once: the real model's words, voices, times and seams"
)

SENTENCE = "The quick brown fox jumps over the lazy dog, doesn't it?"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    files = find_folder(real_kokoro(), "int8")
    if "af_heart" not in files.voices:
        pytest.skip("Kokoro-82M's English voices are in a package of npm, which is not installed")
    engine = KokoroEngine(files, tmp_path_factory.mktemp("kokoro"), precision="int8", threads=2)
    asyncio.run(engine.load(lambda message: None))
    yield engine
    asyncio.run(engine.close())


async def chunks_of(engine, text: str, name: str) -> list[Sound]:
    voice = next((each for each in engine.voices() if each.id == name), None)
    utterance = Utterance(text, voice or engine.mixture(name))
    return [chunk async for chunk in engine.speak(utterance)]


async def speak(engine, text: str, name: str) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in await chunks_of(engine, text, name)])


@pytest.mark.parametrize("name", ["am_michael", "af_heart", "bf_emma", "af_heart+am_michael"])
async def test_a_recognizer_hears_every_word(engine, name):
    for text in SENTENCES[:3]:
        assert ears.hear_words(await speak(engine, text, name)) == ears.plain_words(text)


async def test_speaker_0_is_a_man_and_speaker_1_a_woman_as_loud_as_hibari(engine):
    man, woman = [await speak(engine, SENTENCE, name) for name in ("am_michael", "af_heart")]
    assert 90 < ears.median_pitch_hz(man) < 145
    assert ears.median_pitch_hz(woman) > 165
    for samples in (man, woman):
        assert -23 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -17
        assert np.abs(samples).max() < 1.0


async def test_the_same_text_is_the_same_samples_alone_and_in_company(engine):
    alone = [await speak(engine, text, "af_heart") for text in SENTENCES[:3]]
    together = await asyncio.gather(*(speak(engine, text, "af_heart") for text in SENTENCES[:3]))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_parts_compute_the_same_bits_as_the_whole(engine, tmp_path_factory):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        real_kokoro() / "model_quantized.onnx",
        single_thread_options(),
        providers=["CPUExecutionProvider"],
    )
    phonemes = "ðə tɹˈAn tə ðə kˈOst lˈivz ˈɜɹli."
    style = engine._packs["af_heart"].style(len(phonemes))
    feeds = {"tokens": [encode(phonemes)], "style": style, "speed": np.ones(1, np.float32)}
    (whole,) = session.run(None, feeds)
    frames = engine._network.plan(encode(phonemes), style, 1.0, begin_inference())
    parts = engine._network.decode(frames, 0, len(frames), None, begin_inference())
    assert np.array_equal(whole.ravel(), parts)


async def test_words_begin_where_the_sound_does_behind_a_pause(engine):
    """Behind a comma there is silence, and then the word: the first sound over -40 dB. Half of them
    within 25 ms, nine of ten within 40."""
    text = "Yes, take two, but please, go back, down there, past nine, to Kate, and Bob."
    errors = []
    for name in ("af_heart", "am_michael"):
        spoken = await chunks_of(engine, text, name)
        samples = np.concatenate([chunk.samples for chunk in spoken])
        words = [word for chunk in spoken for word in chunk.words]
        for before, word in itertools.pairwise(words):
            if text[before.text_end] != ",":
                continue
            begin, end = word.start - SAMPLE_RATE // 8, word.start + SAMPLE_RATE // 8
            level = np.abs(samples[begin:end]).reshape(-1, 120).max(axis=1)  # 5 ms each
            loud = level > 0.01 * np.abs(samples).max()
            quiet = np.flatnonzero(~loud[: len(loud) // 2 + 10])
            if len(quiet):
                errors.append(abs(begin + 120 * (quiet[-1] + 1) - word.start) / 24)
    assert len(errors) >= 8
    assert np.median(errors) <= 25
    assert np.percentile(errors, 90) <= 40


async def test_no_seam_is_heard_between_chunks(engine):
    """Where chunks meet the sound is no less smooth than elsewhere."""
    packs, text = engine._packs, "wˌi wˈɔkt əlˈɔŋ ðə ɹˈɪvəɹ ˌʌntˈɪl ðə sˈʌn wˈɛnt dˌWn, ænd sˈæt."
    style = packs["af_heart"].style(len(text))
    frames = engine._network.plan(encode(text), style, 1.0, begin_inference())
    statistics = engine._norms.of([(packs["af_heart"], 1.0, "a")], len(frames), begin_inference())
    pieces, places, at = [], [], 0
    for chunk in chunks(4, len(frames)):
        made = engine._network.decode(
            frames, chunk.left, chunk.right, statistics, begin_inference()
        )
        pieces.append(chunk.cut(made))
        places.append(at)
        at += FRAME_SAMPLES * (chunk.end - chunk.begin)
    steps = np.abs(np.diff(np.concatenate(pieces)))
    assert len(places) >= 3
    assert max(steps[place - 1] for place in places[1:]) < np.percentile(steps, 99.9)


def test_another_start_prepares_nothing(engine, tmp_path):
    said = []
    graph = real_kokoro() / "model_quantized.onnx"
    for _ in range(2):
        prepare(graph, tmp_path, said.append)
    assert said == ["preparing model_quantized.onnx"]
