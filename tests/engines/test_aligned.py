"""Word times for speech whose engine has none: found, exact, at the side, and never in the way."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from engines.remote.running import remote_engine, running_replica
from sentences import SENTENCES
from servers import CHUNK_SAMPLES, SteppedEngine
from tts_provider.engines.aligned import AlignedEngine
from tts_provider.engines.espeak.engine import VOICES as ROBOTS
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.engines.hibari.voice import VOICES
from tts_provider.errors import EngineFailed
from tts_provider.speech.engine import Engine, Manner, Sound, Utterance, Voice, Word

MALE, FEMALE = VOICES
MS = 24
SENTENCE = SENTENCES[8]


class Wordless(Engine):
    """An engine as if it had no words; those that it has are `truth`."""

    name = model = "wordless"
    device, precision = "cpu", "int8"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.truth: list[Word] = []

    def voices(self):
        return self.engine.voices()

    async def load(self, on_progress):
        pass

    async def speak(self, utterance):
        self.truth = []
        async with aclosing(self.engine.speak(utterance)) as chunks:
            async for chunk in chunks:
                self.truth += chunk.words
                yield replace(chunk, words=())

    async def close(self):
        pass


class Counted(EspeakEngine):
    """How often it speaks."""

    asked = 0

    def speak(self, utterance):
        self.asked += 1
        return super().speak(utterance)


class Broken(EspeakEngine):
    async def speak(self, utterance):
        raise EngineFailed("the reference breaks")
        yield


@pytest.fixture(scope="module")
def hibari():
    engine = HibariEngine(read_model(), threads=2)
    asyncio.run(engine.load(lambda line: None))
    yield engine
    asyncio.run(engine.close())


async def listen(engine: Engine, text: str, voice: Voice, **options) -> list[Sound]:
    asked = Utterance(text, voice, Manner(**{"seed": 1, "word_times": True, **options}))
    return [chunk async for chunk in engine.speak(asked)]


def words_of(chunks: list[Sound]) -> list[Word]:
    return [word for chunk in chunks for word in chunk.words]


def samples_of(chunks: list[Sound]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


async def errors_of(engine: Engine, within: Wordless, voice: Voice) -> np.ndarray:
    """(words, 2): how far starts and ends are from the truth, in samples."""
    errors = []
    for text in SENTENCES[:10]:
        words = words_of(await listen(engine, text, voice))
        assert words
        assert all(word.is_estimated for word in words)
        assert all(a.end <= b.start for a, b in itertools.pairwise(words))
        truth = {(word.text_start, word.text_end): word for word in within.truth}
        pairs = [(word, truth.get((word.text_start, word.text_end))) for word in words]
        errors += [(a.start - b.start, a.end - b.end) for a, b in pairs if b is not None]
    return np.abs(np.array(errors))


async def test_a_woman_of_whom_nothing_is_known_is_aligned_with_the_man(hibari):
    within = Wordless(hibari)
    engine = AlignedEngine(within, [hibari])
    errors = await errors_of(engine, within, replace(FEMALE, gender="unknown"))
    assert np.median(errors) <= 40 * MS
    assert np.percentile(errors, 95) <= 120 * MS


async def test_another_engine_is_aligned_too(hibari):
    within = Wordless(EspeakEngine())
    engine = AlignedEngine(within, [hibari])
    for robot in ROBOTS:
        starts = (await errors_of(engine, within, robot))[:, 0]
        assert np.median(starts) <= 40 * MS
        assert np.percentile(starts, 95) <= 120 * MS


async def test_the_reference_speaks_the_voices_language(hibari):
    espeak = EspeakEngine()
    within = Wordless(espeak)
    text = "Das Haus am Ende der Straße steht seit Jahren leer."
    words = words_of(
        await listen(AlignedEngine(within, [hibari, espeak]), text, espeak.voice_of("de", "male"))
    )
    assert [text[w.text_start : w.text_end] for w in words] == text.rstrip(".").split()
    for word, true in zip(words, within.truth, strict=True):
        assert abs(word.start - true.start) <= 40 * MS


async def test_what_the_first_reference_cannot_read_the_next_one_reads(hibari):
    espeak = EspeakEngine()
    engine = AlignedEngine(Wordless(espeak), [hibari, espeak])
    assert words_of(await listen(engine, "Привет, мир", ROBOTS[0]))


async def test_audio_is_the_engines_own_and_the_words_come_behind_it(hibari):
    engine = AlignedEngine(Wordless(hibari), [hibari])
    chunks = await listen(engine, SENTENCE, MALE)
    assert np.array_equal(samples_of(chunks), samples_of(await listen(hibari, SENTENCE, MALE)))
    assert [len(chunk.words) > 0 for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len(chunks[-1].samples) == 0


async def test_nobody_is_asked_where_nobody_wants_words():
    reference = Counted()
    engine = AlignedEngine(Wordless(EspeakEngine()), [reference])
    assert not words_of(await listen(engine, SENTENCE, ROBOTS[0], word_times=False))
    assert reference.asked == 0
    assert words_of(await listen(engine, SENTENCE, ROBOTS[0]))
    assert reference.asked == 1


async def test_an_engine_that_has_words_keeps_them(hibari):
    engine = AlignedEngine(hibari, [EspeakEngine()])
    words = words_of(await listen(engine, SENTENCE, MALE))
    assert words == words_of(await listen(hibari, SENTENCE, MALE))
    assert not any(word.is_estimated for word in words)


async def test_audio_does_not_wait_for_the_reference(hibari):
    reference = SteppedEngine()
    engine = AlignedEngine(Wordless(hibari), [reference])
    speaking = engine.speak(Utterance(SENTENCE, MALE, Manner(seed=1, word_times=True)))
    whole = samples_of(await listen(hibari, SENTENCE, MALE))
    async with aclosing(speaking) as chunks:
        heard = 0
        while heard < len(whole):
            heard += len((await anext(chunks)).samples)
        assert reference.chunks_made == 0
        reference.allow()
        assert (await anext(chunks)).words


async def test_leaving_early_ends_the_reference(hibari):
    reference = SteppedEngine()
    engine = AlignedEngine(Wordless(hibari), [reference])
    speaking = engine.speak(Utterance(SENTENCE, MALE, Manner(word_times=True)))
    async with aclosing(speaking) as chunks:
        await anext(chunks)
        await anext(chunks)
        while not reference.waiting:
            await asyncio.sleep(0)
    assert reference.waiting == 0


async def test_a_reference_that_breaks_costs_the_words_and_no_speech(hibari, caplog):
    engine = AlignedEngine(Wordless(hibari), [Broken()])
    chunks = await listen(engine, SENTENCE, MALE)
    assert np.array_equal(samples_of(chunks), samples_of(await listen(hibari, SENTENCE, MALE)))
    assert not words_of(chunks)
    assert "the reference breaks" in caplog.text


async def test_without_anybody_of_that_language_there_are_no_words(hibari, caplog):
    espeak = EspeakEngine()
    engine = AlignedEngine(Wordless(espeak), [hibari])
    assert not words_of(await listen(engine, "Guten Tag.", espeak.voice_of("de", "male")))
    assert "has no word timestamps" in caplog.text


async def test_words_that_come_behind_the_audio_reach_a_gateway(hibari):
    engine = AlignedEngine(Wordless(hibari), [hibari])
    async with running_replica(engine) as replica:
        async with remote_engine(replica.url) as remote:
            far = await listen(remote, SENTENCE, MALE)
    near = await listen(engine, SENTENCE, MALE)
    assert words_of(far) == words_of(near) != []
    assert np.array_equal(samples_of(far), samples_of(near))


async def test_many_at_once_have_their_own_words(hibari):
    engine = AlignedEngine(Wordless(hibari), [hibari])
    alone = [words_of(await listen(engine, text, MALE)) for text in SENTENCES[:6]]
    together = await asyncio.gather(*(listen(engine, text, MALE) for text in SENTENCES[:6]))
    assert [words_of(chunks) for chunks in together] == alone


class CutShort(Wordless):
    """Ends where an utterance's audio may be no longer."""

    async def speak(self, utterance):
        left = MS * utterance.manner.max_audio_ms
        async with aclosing(super().speak(utterance)) as chunks:
            async for chunk in chunks:
                yield replace(chunk, samples=chunk.samples[:left])
                left -= len(chunk.samples)
                if left <= 0:
                    return


async def test_words_that_are_cut_off_have_no_times(hibari):
    engine = AlignedEngine(CutShort(hibari), [hibari])
    whole = words_of(await listen(hibari, SENTENCE, MALE))
    cut = whole[6].start // MS
    words = words_of(await listen(engine, SENTENCE, MALE, max_audio_ms=cut))
    assert 5 <= len(words) <= 7
    for word, true in zip(words[:5], whole, strict=False):
        assert abs(word.start - true.start) <= 40 * MS
    assert len(words_of(await listen(engine, SENTENCE, MALE, max_audio_ms=60_000))) == len(whole)


async def test_words_are_within_what_is_heard(hibari):
    (last,) = (await listen(AlignedEngine(Wordless(hibari), [hibari]), "Yes.", MALE))[-1].words
    assert 0 <= last.start < last.end
    assert last.end - last.start > CHUNK_SAMPLES
