from __future__ import annotations

import dataclasses
import itertools
from contextlib import aclosing

import numpy as np
import pytest

from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.errors import NoSpeech
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Phonemes, Utterance
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.reading import ReadingOptions, read

TEXT = "Hello there. This is the second sentence, a longer one. And a third!"


async def chunks_of(text: str, **options):
    utterance = Utterance(text, VOICES[0], Manner(**options))
    return [
        chunk async for chunk in pipeline.speak(EspeakEngine(), utterance, read(utterance.text))
    ]


async def test_one_continuous_timeline():
    position = 0
    for chunk in await chunks_of(TEXT):
        assert chunk.start == position
        position = chunk.end
    assert 3 < position / SAMPLE_RATE < 8


async def test_a_text_is_the_sum_of_its_sentences():
    whole = np.concatenate([chunk.samples for chunk in await chunks_of("Good day. Good night.")])
    parts = [c.samples for text in ("Good day.", "Good night.") for c in await chunks_of(text)]
    assert np.array_equal(whole, np.concatenate(parts))


async def test_chunks_grow_from_80_ms():
    lengths_ms = [1000 * len(chunk.samples) // SAMPLE_RATE for chunk in await chunks_of(TEXT)]
    assert lengths_ms[:3] == [80, 160, 240]
    assert all(320 <= length < 480 for length in lengths_ms[4:-1])


@pytest.mark.parametrize("limit_ms", [1, 80, 999, 1000])
async def test_the_audio_limit_cuts_exactly(limit_ms):
    chunks = await chunks_of(TEXT, max_audio_ms=limit_ms)
    assert chunks[-1].end == SAMPLE_RATE * limit_ms // 1000


@pytest.mark.parametrize("text", ["...", "\u200b", " . \n . "])
async def test_nothing_to_speak_is_an_error(text):
    with pytest.raises(NoSpeech):
        await chunks_of(text)


async def test_closing_stops_the_engine():
    utterance = Utterance(TEXT * 50, VOICES[0])
    async with aclosing(pipeline.speak(EspeakEngine(), utterance, read(utterance.text))) as chunks:
        await anext(chunks)
    assert [chunk.end for chunk in await chunks_of("Free again.")]


class OneSpeed(EspeakEngine):
    """Like a model, which speaks at one speed."""

    speeds = (1.0, 1.0)


@pytest.mark.parametrize("engine", [EspeakEngine(), OneSpeed()], ids=["its own", "stretched"])
@pytest.mark.parametrize("speed", [0.5, 2.0, 4.0])
async def test_every_engine_has_every_speed(engine, speed):
    async def length(**options) -> int:
        utterance = Utterance(TEXT, VOICES[0], Manner(**options))
        return [c async for c in pipeline.speak(engine, utterance, read(TEXT))][-1].end

    normal = await length()
    assert normal / await length(speed=speed) == pytest.approx(speed, rel=0.12)
    # The limit is on what is heard, whatever the speed.
    assert await length(speed=speed, max_audio_ms=300) == 300 * SAMPLE_RATE // 1000


async def segments_of(engine, text: str, **options) -> list[pipeline.Segment]:
    utterance = Utterance(text, VOICES[0], Manner(word_times=True, **options))
    items = [item async for item in pipeline.speak(engine, utterance, read(text))]
    return [item for item in items if isinstance(item, pipeline.Segment)]


@pytest.mark.parametrize("engine", [EspeakEngine(), OneSpeed()], ids=["its own", "stretched"])
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0, 4.0])
async def test_words_are_within_their_segment_at_every_speed(engine, speed):
    segments = await segments_of(engine, TEXT, speed=speed)
    assert [word.text for segment in segments for word in segment.words] == TEXT.split()
    for segment in segments:
        assert segment.start <= segment.words[0].start
        assert all(a.end <= b.start for a, b in itertools.pairwise(segment.words))
        assert segment.words[-1].end <= segment.end
        # They go from its beginning nearly to its end.
        assert segment.words[0].start - segment.start < SAMPLE_RATE // 10
        assert segment.end - segment.words[-1].end < SAMPLE_RATE // 2 / min(speed, 1)


async def test_segments_and_words_only_where_they_are_wanted():
    assert all(isinstance(chunk, pipeline.AudioChunk) for chunk in await chunks_of(TEXT))
    utterance = Utterance(TEXT, VOICES[0])
    items = [i async for i in pipeline.speak_passages(EspeakEngine(), utterance, read(TEXT))]
    assert [item.words for item in items if isinstance(item, pipeline.Segment)] == [(), (), ()]


async def test_words_end_with_the_audio_limit():
    whole = [word for segment in await segments_of(EspeakEngine(), TEXT) for word in segment.words]
    for limit_ms in (1, 100, 999, 1500):
        limit = SAMPLE_RATE * limit_ms // 1000
        segments = await segments_of(EspeakEngine(), TEXT, max_audio_ms=limit_ms)
        assert segments[-1].end == limit
        assert [word for segment in segments for word in segment.words] == [
            dataclasses.replace(word, end=min(word.end, limit))
            for word in whole
            if word.start < limit
        ]


async def test_phonemes_go_to_the_engine_with_their_passage():
    asked: list[Utterance] = []

    class Noting(EspeakEngine):
        def speak(self, utterance):
            asked.append(utterance)
            return super().speak(utterance)

    options = ReadingOptions(lexicon=Lexicon({"seven": "/tuː/"}))
    text = "Hello. Say seven."
    speech = pipeline.speak(Noting(), Utterance(text, VOICES[0]), read(text, options))
    assert [chunk async for chunk in speech]
    assert [one.phonemes for one in asked] == [(), (Phonemes(4, 9, "tuː"),)]
