"""Kokoro's engine on a small graph of its structure: voices, words, streams, languages."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from contextlib import aclosing

import numpy as np
import pytest

from engines.kokoro.small_kokoro import VOICES, write_folder
from servers import ask, open_socket, receive, running_server, send
from tts_provider.engines.espeak import engine as espeak
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.kokoro.engine import KokoroEngine
from tts_provider.engines.kokoro.files import find_folder
from tts_provider.engines.kokoro.network.graph import Network
from tts_provider.engines.kokoro.phonemes.phonemizers import Phonemizers
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Manner, Phonemes, Sound, Utterance

SENTENCE = "The train to the coast leaves early in the morning, and then we go."
PHONEMIZERS = Phonemizers()
LONG = " ".join(["We walked along the river until the sun went down, and then we sat."] * 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("kokoro") / "files")


def make(folder, place, *, threads: int = 2, foreign=None) -> KokoroEngine:
    files = find_folder(folder, "int8")
    engine = KokoroEngine(files, place, precision="int8", threads=threads, foreign=foreign)
    engine._phonemizers = PHONEMIZERS  # which take a second to make
    return engine


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def engine(folder, place):
    engine = make(folder, place, foreign=EspeakEngine())
    asyncio.run(engine.load(lambda message: None))
    yield engine
    asyncio.run(engine.close())


def voice(engine, name: str):
    found = next((each for each in engine.voices() if each.id == name), None)
    return found or engine.mixture(name)


async def chunks_of(engine, text: str, name: str = "am_michael", **asked) -> list[Sound]:
    return [sound async for sound in engine.speak(Utterance(text, voice(engine, name), **asked))]


async def speak(engine, text: str, name: str = "am_michael", **asked) -> np.ndarray:
    chunks = await chunks_of(engine, text, name, **asked)
    return np.concatenate([chunk.samples for chunk in chunks])


def test_voices_say_their_language_and_gender_and_two_are_the_speakers(engine):
    voices = {each.id: each for each in engine.voices()}
    assert list(voices) == ["am_michael", "af_heart", *sorted({*VOICES} - {*list(voices)[:2]})]
    assert (voices["am_michael"].speaker, voices["af_heart"].speaker) == (0, 1)
    assert all(voices[name].speaker is None for name in list(voices)[2:])
    facts = {(each.id, each.gender, each.language, each.source) for each in engine.voices()}
    assert ("bf_emma", "female", "en-GB", "kokoro") in facts
    assert ("hf_alpha", "female", "hi", "kokoro") in facts


def test_a_folder_without_the_usual_speakers_has_others(tmp_path):
    engine = make(write_folder(tmp_path / "files", ("jf_alpha", "jm_kumo")), tmp_path)
    assert [(each.id, each.speaker) for each in engine.voices()] == [
        ("jm_kumo", 0),
        ("jf_alpha", 1),
    ]
    alone = make(write_folder(tmp_path / "one", ("af_sky",)), tmp_path)
    assert [(each.id, each.speaker) for each in alone.voices()] == [("af_sky", 0)]


async def test_speech_is_sound_and_never_clips(engine):
    samples = await speak(engine, SENTENCE)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.05 < np.abs(samples).max() < 1.0


async def test_the_same_text_is_the_same_samples_alone_in_company_and_tomorrow(
    engine, folder, place
):
    texts = [f"{SENTENCE} This is number {word}." for word in ("one", "two", "three", "four")]
    alone = [await speak(engine, text) for text in texts]
    together = await asyncio.gather(*(speak(engine, text, manner=Manner(seed=5)) for text in texts))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    tomorrow = make(folder, place, threads=1)
    await tomorrow.load(lambda message: None)
    assert np.array_equal(alone[0], await speak(tomorrow, texts[0]))
    await tomorrow.close()


async def test_a_sentence_is_heard_before_it_is_decoded(engine, monkeypatch):
    """Its first sound comes after one short chunk of many."""
    decoded, decode = [], Network.decode

    def watched(self, frames, begin, end, statistics, run):
        decoded.append((begin, end, len(frames)))
        return decode(self, frames, begin, end, statistics, run)

    monkeypatch.setattr(Network, "decode", watched)
    async with aclosing(engine.speak(Utterance(SENTENCE, voice(engine, "af_heart")))) as spoken:
        await anext(spoken)
        count = len(decoded)
        async for _ in spoken:
            pass
    begin, end, frames = decoded[0]
    assert count == 1
    assert end - begin <= 16 + 4 + 4 < frames
    assert len(decoded) > 3


async def test_closing_the_iterator_ends_the_work_within_a_chunk(engine, monkeypatch):
    decoded, decode = [], Network.decode
    monkeypatch.setattr(
        Network, "decode", lambda self, *args: decoded.append(args) or decode(self, *args)
    )
    spoken = engine.speak(Utterance(LONG, voice(engine, "af_heart")))
    await anext(spoken)
    await spoken.aclose()
    count = len(decoded)
    assert len(await speak(engine, "Free again."))
    assert len(decoded) == count + 1


async def test_who_is_cancelled_while_a_chunk_is_decoded_ends_it(engine, monkeypatch):
    begun, decode = threading.Event(), Network.decode

    def watched(self, *args):
        begun.set()
        return decode(self, *args)

    monkeypatch.setattr(Network, "decode", watched)
    task = asyncio.create_task(speak(engine, LONG))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await speak(engine, "Free again."))


async def test_statistics_are_measured_once_and_kept(folder, tmp_path, monkeypatch):
    measured, measure = [], Network.measure
    monkeypatch.setattr(
        Network, "measure", lambda self, *args: measured.append(args) or measure(self, *args)
    )
    first = make(folder, tmp_path)
    await first.load(lambda message: None)
    assert len(measured) == 4  # a short and a long sentence of both speakers
    said = await asyncio.gather(*(speak(first, SENTENCE, "bf_emma") for _ in range(3)))
    assert len(measured) == 6
    again = make(folder, tmp_path)
    await again.load(lambda message: None)
    assert np.array_equal(await speak(again, SENTENCE, "bf_emma"), said[0])
    assert len(measured) == 6
    await first.close()
    await again.close()


async def test_damaged_statistics_are_measured_again(folder, tmp_path, caplog):
    first = make(folder, tmp_path)
    await first.load(lambda message: None)
    said = await speak(first, SENTENCE)
    await first.close()
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    again = make(folder, tmp_path)
    await again.load(lambda message: None)
    assert np.array_equal(await speak(again, SENTENCE), said)
    assert "is damaged and is measured again" in caplog.text
    await again.close()


# Words


@pytest.mark.parametrize("text", [SENTENCE, LONG, "Well, yes — “quick” twenty-one naïve dogs."])
async def test_words_have_their_place_in_the_text_and_on_the_timeline(engine, text):
    chunks = await chunks_of(engine, text)
    words = [word for chunk in chunks for word in chunk.words]
    said = [text[word.text_start : word.text_end] for word in words]
    assert said == [word.strip("“”.,—") for word in text.split() if word.strip("“”.,—")]
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    assert words[-1].end <= sum(len(sound.samples) for sound in chunks)
    assert not any(word.is_estimated for word in words)


async def test_words_follow_the_durations(engine):
    """Two frames before a phoneme's first frame; the first sound is a lead's 20 ms in."""
    chunks = await chunks_of(engine, SENTENCE)
    words = [word for chunk in chunks for word in chunk.words]
    starts = np.diff([word.start for word in words])
    assert all(step % 600 == 0 for step in starts[1:])


async def test_a_word_is_said_as_its_phonemes_are(engine):
    asked = (Phonemes(4, 9, "tɹeɪn"),)
    plain = await speak(engine, SENTENCE)
    assert np.array_equal(plain, await speak(engine, SENTENCE, phonemes=asked))
    other = await speak(engine, SENTENCE, phonemes=(Phonemes(4, 9, "buːk"),))
    assert len(plain) != len(other) or not np.array_equal(plain, other)


# Voices and mixtures


async def test_a_mixture_is_a_voice_of_its_own(engine):
    mixed = voice(engine, "af_heart+am_michael")
    assert (mixed.gender, mixed.language, mixed.speaker) == ("unknown", "en-US", None)
    both = await speak(engine, SENTENCE, "af_heart+am_michael")
    halves = await speak(engine, SENTENCE, "am_michael(2)+af_heart(2)")
    assert np.array_equal(both, halves)
    assert len(both) != len(await speak(engine, SENTENCE, "af_heart"))
    assert voice(engine, "AF_Heart am_michael").id == "af_heart am_michael"  # + of a URL


async def test_a_mixture_of_a_voice_with_itself_is_the_voice(engine):
    alone = await speak(engine, SENTENCE, "af_heart")
    twice = await speak(engine, SENTENCE, "af_heart(3)+af_heart(1)")
    np.testing.assert_allclose(alone, twice, atol=1e-3)


MIXTURES = {
    "af_heart+nobody": "'nobody' is no voice",
    "af_heart(0)+af_sky": "the weight of af_heart is 0",
    "af_heart+af_sky+am_michael+bf_emma+ef_dora": "at most 4",
    "af_heart(x)+af_sky": "is not NAME",
    "af_heart(1000)+af_sky": "is not NAME",
    "af_heart++af_sky": "is not NAME",
}


@pytest.mark.parametrize(("name", "reason"), MIXTURES.items(), ids=MIXTURES)
def test_a_mixture_that_cannot_be_had_says_why(engine, name, reason):
    with pytest.raises(InvalidRequest, match=reason) as caught:
        engine.mixture(name)
    assert caught.value.code == "unknown_voice"


@pytest.mark.parametrize("name", ["", "nobody", "af_heart", "male", "one+two", "speaker-0 x"])
def test_what_is_no_mixture_is_somebody_elses_name(engine, name):
    assert engine.mixture(name) is None


async def test_speed_is_the_graphs_own_within_its_range(engine):
    normal, slow = await speak(engine, LONG), await speak(engine, LONG, manner=Manner(speed=0.7))
    assert len(slow) / len(normal) == pytest.approx(1 / 0.7, rel=0.08)


# Languages


FOREIGN = {
    "ef_dora": "Hola, los amigos compran «veinticinco» libros por el camino. ¿Verdad?",
    "ff_siwis": "Les amis sont là-bas, et l'homme qui rit aime qu'on l'écoute.",
    "hf_alpha": "नमस्ते, आप कैसे हैं?",
}


@pytest.mark.parametrize(("name", "text"), FOREIGN.items(), ids=FOREIGN)
async def test_other_languages_are_read_by_espeaks_phonemes(engine, name, text):
    chunks = await chunks_of(engine, text, name)
    words = [text[w.text_start : w.text_end] for chunk in chunks for w in chunk.words]
    assert words == [word.strip("«».,¿?") for word in text.split()]


async def test_another_script_is_read_by_a_voice_of_its_language(engine):
    text = "Say नमस्ते, आप कैसे हैं to them."
    chunks = await chunks_of(engine, text, "af_heart")
    words = [text[w.text_start : w.text_end] for chunk in chunks for w in chunk.words]
    assert words == [word.strip(".,") for word in text.split()]
    hindi = "नमस्ते, आप कैसे हैं?"
    assert np.array_equal(
        await speak(engine, hindi, "am_michael"), await speak(engine, hindi, "hf_alpha")
    )
    assert len(await speak(engine, "hello there", "hf_alpha"))


async def test_without_an_english_voice_latin_letters_are_read_by_the_voice_itself(tmp_path):
    """PyPI has Japanese voices only; they load and speak without what reads Japanese."""
    engine = make(write_folder(tmp_path / "files", ("jf_alpha", "jm_kumo")), tmp_path)
    await engine.load(lambda message: None)
    chunks = await chunks_of(engine, "Hello there.", "jf_alpha")
    assert [word.text_start for chunk in chunks for word in chunk.words] == [0, 6]
    await engine.close()


async def test_a_script_that_no_voice_here_reads_is_espeaks_or_an_error(engine, folder, tmp_path):
    assert len(await speak(engine, "Привет, мир"))
    alone = make(folder, tmp_path)
    with pytest.raises(InvalidRequest, match="cannot read") as caught:
        await chunks_of(alone, "Привет, мир")
    assert caught.value.code == "unreadable_text"
    assert "tts-provider[espeak]" in caught.value.message
    await alone.close()


async def test_without_espeak_a_voice_of_another_language_says_what_it_needs(
    folder, place, monkeypatch
):
    monkeypatch.setattr("tts_provider.engines.espeak.engine.is_installed", lambda: False)
    engine = make(folder, place)
    engine._phonemizers = Phonemizers()
    await engine.load(lambda message: None)
    with pytest.raises(InvalidRequest, match="need espeak-ng: pip install") as caught:
        await speak(engine, "Hola", "ef_dora")
    assert caught.value.code == "language_not_installed"
    assert len(await speak(engine, "A zorblax is said by the package's own network.", "af_heart"))
    await engine.close()


JAPANESE, CHINESE = "今日は3.5円です。駅で会いましょう、ね？", "你好，世界。我们今天去银行。"


@pytest.mark.parametrize(
    ("package", "name", "text"),
    [("pyopenjtalk", "jf_alpha", JAPANESE), ("jieba", "zf_xiaobei", CHINESE)],
)
async def test_without_its_extra_a_language_is_an_error_that_says_so(
    tmp_path, monkeypatch, package, name, text
):
    monkeypatch.setitem(sys.modules, package, None)
    engine = make(write_folder(tmp_path / "files", ("af_heart", name)), tmp_path)
    engine._phonemizers = Phonemizers()
    await engine.load(lambda message: None)
    for speaker in (name, "af_heart"):
        with pytest.raises(InvalidRequest, match=r"pip install 'tts-provider\[") as caught:
            await speak(engine, text, speaker)
        assert caught.value.code == "language_not_installed"
    await engine.close()


HARD = {
    "300 digits": "1" * 300,
    "300 letters": "a" * 300,
    "no full stop": " ".join(["word"] * 90),
    "emoji between": "Hello 😀 there 👩‍👩‍👧 again",
    "combining marks": "cafe\u0301 nai\u0308ve",
    "control characters": "one\x00 two\x07 three",
    "one letter": "x",
}


# Each text in English; each language with one that is long and one that is odd, since how a text is
# cut and what a language makes of what it does not know have nothing to do with each other.
@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((text, "af_heart") for text in HARD),
        *(
            (text, name)
            for name in ("bf_emma", "ef_dora", "ff_siwis", "hf_alpha")
            for text in ("300 digits", "control characters")
        ),
    ],
)
async def test_hard_text_is_spoken(engine, text, name):
    samples = await speak(engine, HARD[text], name)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0.01


@pytest.mark.parametrize("text", ["😀 👍", "…", "!!!", ""])
@pytest.mark.parametrize("name", ["af_heart", "ef_dora"])
async def test_text_without_words_is_silence(engine, text, name):
    assert not await chunks_of(engine, text, name)


# Over a server


async def test_names_mixtures_words_and_places_on_a_server(folder, place):
    engine = make(folder, place, threads=1)
    async with running_server(engine) as server, open_socket(server) as socket:
        service = server.service
        assert service.find_voice(None, 0).id == "am_michael"
        assert service.find_voice("AF_Heart", None).id == "af_heart"
        assert service.find_voice("shimmer", None).id == "af_sky"
        assert service.find_voice("nova", None).id == "af_heart"  # af_nova's file is not here
        assert service.find_voice("af_heart(2)+af_sky", None).id == "af_heart(2)+af_sky"
        with pytest.raises(InvalidRequest, match="at most 4") as caught:
            service.find_voice("+".join(["af_heart"] * 5), None, unknown_status=404)
        assert caught.value.http_status == 404
        info = await ask(socket, command="info")
        mixture = service.find_voice("af_heart+af_sky", None)
        assert all(service._watermark.marks(each) for each in (*engine.voices(), mixture))
        assert info["limits"]["max_streams"] == 2  # one thread's
        assert {voice["language"] for voice in info["voices"]} >= {"en-US", "en-GB", "es", "fr"}
        reply = await ask(socket, text=SENTENCE, voice="af_heart+af_sky")
        assert reply["status"] == "success"


async def test_a_sentence_in_another_language_is_spoken_by_a_voice_of_it(
    folder, place, monkeypatch
):
    engine = make(folder, place)
    text = "It costs $5. Le livre coûte 12,50 €. ¿Puede decirme cómo llegar a la biblioteca?"

    async def speakers(server) -> list[tuple[str | None, str]]:
        """Who speaks which sentence, and its first word, as the session tells."""
        found = []
        async with open_socket(server, path="v1/stream") as socket:
            await receive(socket)
            await send(socket, type="session.update", words=True)
            await send(socket, type="input_text.append", context_id="a", text=text)
            await send(socket, type="input_text.end", context_id="a")
            while (message := await receive(socket))["type"] != "context.done":
                assert message["type"] != "error", message
                if message["type"] == "audio.words":
                    found.append((message["words"][0].get("voice"), message["words"][0]["text"]))
        return found

    async with running_server(engine, watermark="off") as server:
        assert await speakers(server) == [
            (None, "It"),  # the voice that was asked for
            ("ff_siwis", "Le"),
            ("ef_dora", "¿Puede"),
        ]
        monkeypatch.setattr(espeak, "is_installed", lambda: False)
        assert [voice for voice, _ in await speakers(server)] == [None] * 3
