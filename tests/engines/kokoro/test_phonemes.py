"""A text in each language → Kokoro's sounds, and which of them are which word's."""

from __future__ import annotations

import itertools
import subprocess
import sys
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_provider.engines.hibari.unknown_words import of_espeak
from tts_provider.engines.kokoro.phonemes.alphabet import (
    IDS,
    encode,
    of_dictionary,
    of_foreign,
)
from tts_provider.engines.kokoro.phonemes.chinese import Chinese, to_ipa
from tts_provider.engines.kokoro.phonemes.english import English
from tts_provider.engines.kokoro.phonemes.foreign import Foreign
from tts_provider.engines.kokoro.phonemes.japanese import Japanese
from tts_provider.speech.engine import Phonemes

MAKERS = {
    "en-US": lambda: English(is_british=False),
    "en-GB": lambda: English(is_british=True),
    "es": lambda: Foreign("es"),
    "fr": lambda: Foreign("fr"),
    "hi": lambda: Foreign("hi"),
    "it": lambda: Foreign("it"),
    "pt-BR": lambda: Foreign("pt-BR"),
    "ja": Japanese,
    "zh": Chinese,
}


@pytest.fixture(scope="module")
def readers():
    yield {language: make() for language, make in MAKERS.items()}
    # Their dictionaries, 60 MB, go with the modules.
    for name in [name for name in sys.modules if name.split(".")[0] in ("jieba", "pypinyin")]:
        del sys.modules[name]


def test_the_vocabulary_is_the_models():
    assert len(IDS) == len(set(IDS.values())) == 114
    assert encode("a.") == [0, 43, 4, 0]


SAID = {
    ("en-US", "The water goes by the boat."): "ðə wˈɔTəɹ ɡˈOz bI ðə bˈOt.",
    ("en-GB", "The water goes by the boat."): "ðə wˈɔːtə ɡˈQz bI ðə bˈQt.",
    ("es", "¿Verdad? Sí, «señor»."): "beɾðˈad? sˈi, “seɲˈoɾ”.",
    ("fr", "Les amis sont là-bas."): "lez amˈi sˈɔ̃ lˈabˈa.",
    ("it", "Gli amici, la zuppa!"): "ʎɪ amˈiʧɪ, la ʣˈupːa!",
    ("pt-BR", "A gente não quer."): "a ʒˈAŋʧy nˌɐ̃ʊ̃ kˈɛr.",
    ("hi", "नमस्ते।"): "nəmˈʌsteː.",
    ("ja", "コーヒーを飲んで、学校へ行った。"): "koːçiː o nonde, ɡaʔkoː e iʔta.",
    ("ja", "「新聞」と散歩と天気。"): "“ɕimbɯɴ” to sampo to teŋkʲi.",
    ("zh", "你好，世界。"): "ni↓xau↓, ʂɨ↘ʨje↘.",
    ("zh", "女儿去旅游！"): "ny↓ɚ↗ ʨʰy↘ ly↓jou↗!",
}


@pytest.mark.parametrize(("asked", "said"), SAID.items(), ids=[text for _, text in SAID])
def test_a_text_sounds_as_its_language_does(readers, asked, said):
    language, text = asked
    assert readers[language].pronounce(text).phonemes == said


WORDS = {
    "es": "Los amigos de la casa, ¿verdad?, compran 25 libros.",
    "fr": "Qu'est-ce que l'homme d'aujourd'hui a dit aux amis ?",
    "it": "C'è un'amica nell'acqua — perché?",
    "pt-BR": "Por causa disso, a gente não quer.",
    "hi": "नमस्ते, आप 15 कैसे हैं?",
}


@pytest.mark.parametrize(("language", "text"), WORDS.items(), ids=WORDS)
def test_each_word_has_sounds_of_its_own(readers, language, text):
    said = readers[language].pronounce(text)
    words = [text[word.start : word.end] for word in said.words]
    written = [word.strip(".,?¿—") for word in text.split()]
    assert len(words) >= len([word for word in written if word]) - 1  # espeak says some together
    assert {*words} <= {*written}


def test_words_of_a_dictionary_are_said_as_it_asks(readers):
    asked = (Phonemes(4, 8, "ˈtʃoko"),)
    assert readers["es"].pronounce("Con tren va.", asked).phonemes == "kon ʧˈoko bˈa."
    assert "ɡˈQ" in readers["en-GB"].pronounce("one two", (Phonemes(4, 7, "ˈɡəʊ"),)).phonemes
    assert "tˈu" in readers["en-US"].pronounce("one two", (Phonemes(4, 7, "?"),)).phonemes


def test_an_unknown_word_is_espeaks_where_it_is_installed(readers, monkeypatch):
    assert readers["en-US"].pronounce("zorblax").phonemes == "zˈɔɹblæks"
    monkeypatch.setattr("tts_provider.engines.espeak.engine.is_installed", lambda: False)
    assert English(is_british=False).pronounce("zorblax").phonemes != ""


def test_sounds_of_others_are_written_in_kokoros_letters():
    assert of_espeak("ˈo^ʊvɚ", is_british=False) == "ˈOvəɹ"
    assert of_espeak("ˈə^ʊvə", is_british=True) == "ˈQvə"
    assert of_foreign("t^ʃˈe^ɪ r.") == "ʧˈA ɽ"
    assert of_dictionary("ˈdʒeəri", is_british=True) == "ʤˈɛːɹi"
    assert of_dictionary("psst") == ""


def test_a_buzzed_i_and_a_neutral_tone():
    assert [to_ipa(one) for one in (("zh", "i1"), ("s", "i4"), ("x", "i2"), ("m", "a5"))] == (
        ["ꭧɨ→", "sɨ↘", "ɕi↗", "ma"]
    )
    assert to_ipa(("?", "?")) == ""


TEXTS = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("añ.,-–'’ 5あ漢बé«(")),
    max_size=60,
)


@pytest.mark.parametrize("language", MAKERS)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_text_has_known_sounds_and_words_in_order(readers, language, text):
    said = readers[language].pronounce(text)
    assert {*said.phonemes} <= {*IDS}
    places = [(word.start, word.end, word.first, word.last) for word in said.words]
    assert all(
        0 <= a <= b <= len(text) and 0 <= c < d <= len(said.phonemes) for a, b, c, d in places
    )
    assert all(a[0] <= b[0] and a[3] <= b[2] for a, b in itertools.pairwise(places))


@pytest.mark.skipif(find_spec("pyopenjtalk") is None, reason="install pyopenjtalk-plus")
def test_japanese_is_read_where_all_sessions_share_one_pool():
    """ONNX Runtime has one pool a process, and its package opens sessions when it is imported:
    where this process has such a pool, it cannot be imported here."""
    code = """
from tts_provider import onnx_threads
from tts_provider.engines.kokoro.phonemes.japanese import Japanese
onnx_threads.shared_options(1)
print(Japanese().pronounce("何ですか").phonemes)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
