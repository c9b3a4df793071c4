"""Words that no dictionary has: espeak-ng's for who asks it, else the package's network's."""

from __future__ import annotations

import pytest

from tts_provider.engines.hibari import package
from tts_provider.engines.hibari.package import Phonemizer
from tts_provider.engines.hibari.unknown_words import of_espeak, unknown_word_reader


@pytest.fixture
def without_espeak(monkeypatch):
    monkeypatch.setattr("tts_provider.engines.espeak.engine.is_installed", lambda: False)


def test_espeak_says_them_in_the_voices_sounds():
    read = unknown_word_reader()
    assert read is not None
    assert read("zorblax") == "zˈɔɹblæks"
    british = unknown_word_reader(is_british=True)
    assert british is not None
    assert british("zorblax") == "zˈɔːblaks"
    assert of_espeak("ˈo^ʊvɚ") == "ˈOvəɹ"


def test_without_espeak_there_is_no_reader(without_espeak):
    assert unknown_word_reader() is None


def test_words_of_the_dictionary_are_not_asked_for():
    asked = list[str]()
    reader = Phonemizer(read_unknown=lambda word: asked.append(word))
    reader.pronounce("The train to the coast leaves early, but zorblax stays.")
    assert asked == ["zorblax"]


@pytest.mark.parametrize("said", [None, "", "漢字"])
def test_what_is_not_said_or_in_no_known_sound_is_the_networks(said):
    reader = Phonemizer(read_unknown=lambda word: said)
    assert reader.pronounce("zorblax").phonemes == package._unknown_words(False)("zorblax")
