"""How long a text will be, against how long it is."""

from __future__ import annotations

import pytest

from rows import rows
from sentences import SENTENCES
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import InvalidRequest
from tts_provider.selection import build_engine, choose_embedded
from tts_provider.speech.duration import (
    MARGIN,
    check_duration,
    check_pauses,
    expected_s,
    may_exceed,
)
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Utterance, Voice
from tts_provider.speech.pipeline import AudioChunk, speak
from tts_provider.speech.reading import Passage, ReadingOptions, read

MAN = Voice("male", "Man", "male", "espeak", 0)
TEXTS = {
    "prose": ("en", " ".join(SENTENCES[:8])),
    "short": ("en", "Yes. No. Go on. I see. What? Who is it? Come in. Sit down, please. " * 2),
    "figures": ("en", "In 1984 it cost $3,456.78, and 12 of 345 people came at 10:35."),
    "noise": ("en", "a" * 900 + ". " + "x1" * 300),
    "German": ("de", "Der Fuchs läuft durch den Wald und sucht nach etwas zu essen. " * 2),
    "Chinese": ("cmn", "今天天气很好，我们去公园散步吧。孩子们在草地上玩耍。"),
    "Japanese": ("ja", "きょうはとても天気がいいので、公園を散歩しましょう。"),
    "Korean": ("ko", "오늘은 날씨가 매우 좋아서 공원을 산책합시다. 아이들은 놀고 있습니다."),
    "Russian": ("ru", "Сегодня очень хорошая погода, давайте прогуляемся по парку. "),
    "Hindi": ("hi", "आज मौसम बहुत अच्छा है, चलो पार्क में टहलने चलते हैं। "),
}
ENGINE = EspeakEngine()


async def spoken_s(engine, utterance, passages) -> float:
    items = speak(engine, utterance, passages)
    return sum([len(i.samples) async for i in items if isinstance(i, AudioChunk)]) / SAMPLE_RATE


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_that_fits_is_never_refused_by_its_estimate(name):
    """Whatever a text is, its estimate stays below the margin: what is refused is longer."""
    language, text = TEXTS[name]
    voices = {voice.id: voice for voice in ENGINE.voices()}
    voice = MAN if language == "en" else voices[f"espeak:{language}"]
    for speed in (1.0, 0.5, 2.0):
        utterance = Utterance("", voice, Manner(speed=speed))
        passages = [*read(text, ReadingOptions(language=voice.language))]
        expected = expected_s(ENGINE, utterance, passages)
        made = await spoken_s(ENGINE, utterance, passages)
        assert expected < MARGIN * made, (speed, expected, made)
        assert expected > 0.2 * made or name in ("noise", "Japanese"), (speed, expected, made)


async def test_prose_in_the_embedded_voice_is_known_to_a_fifth():
    settings = Settings(_env_file=None)
    engine = build_engine(choose_embedded(settings), settings)
    await engine.load(lambda _: None)
    passages = [*read(" ".join(SENTENCES[:6]))]
    for voice in engine.voices()[:2]:
        utterance = Utterance("", voice)
        made = await spoken_s(engine, utterance, passages)
        assert expected_s(engine, utterance, passages) == pytest.approx(made, rel=0.2)
    await engine.close()


def test_pauses_count_whole_and_are_not_spoken_faster():
    passages = [Passage("", "", pause_s=3.0), Passage("a", "a" * 16), Passage("", "", pause_s=2.0)]
    assert expected_s(ENGINE, Utterance("", MAN), passages) == pytest.approx(6.0)
    fast = Utterance("", MAN, Manner(speed=2))
    assert expected_s(ENGINE, fast, passages) == pytest.approx(5.5)


def test_a_voice_within_the_text_has_its_own_rate():
    class Slow(EspeakEngine):
        letters_per_s = 1.0

    class Both(EspeakEngine):
        def of(self, voice):
            return Slow() if voice.id == "slow" else self

    slow = Voice("slow", "Slow", "male", "espeak")
    passages = [Passage("ab", "ab"), Passage("ab", "ab", voice=slow)]
    assert expected_s(Both(), Utterance("", MAN), passages) == pytest.approx(2 / 16 + 2)


@rows(
    ("expected", "longest_s", "told"),
    [
        (2250.0, 1800.0, None),
        (2251.0, 1800.0, "about 38 minutes long; one request may have 30 minutes"),
        (40.0, 30.0, "about 40 s long; one request may have 30 s"),
        (10_000.0, float("inf"), None),
    ],
)
def test_what_surely_is_too_long_is_told_with_what_to_do(expected, longest_s, told):
    if told is None:
        check_duration(expected, longest_s)
        return
    with pytest.raises(InvalidRequest) as caught:
        check_duration(expected, longest_s)
    assert (caught.value.code, caught.value.param) == ("speech_too_long", "text")
    for part in (told, "split the text", "session", "POST /v1/audio/jobs", "raise TTS_PROVIDER_"):
        assert part in caught.value.message


def test_pauses_have_no_margin():
    check_pauses(30.0, 30.0)
    with pytest.raises(InvalidRequest, match="ask for shorter ones") as caught:
        check_pauses(30.5, 30.0)
    assert caught.value.code == "speech_too_long"


def test_an_ordinary_text_need_not_be_read_before_it_is_spoken():
    assert not may_exceed(1000, 1.0, 1800.0)
    assert may_exceed(20_000, 1.0, 1800.0)
    assert may_exceed(1000, 0.25, 1800.0)
