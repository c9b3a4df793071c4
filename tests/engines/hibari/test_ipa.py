"""What dictionaries write, in the embedded voice's own phonemes."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from tts_provider.engines.hibari.ipa import _LEARNED, from_ipa


@pytest.mark.parametrize(
    ("ipa", "phonemes"),
    [
        ("ˈsɛvən", "sˈɛvən"),
        ("tuː", "tˈu"),
        ("ˈnaɪki", "nˈIki"),
        ("t͡ʃɜːt͡ʃ", "ʧˈɜɹʧ"),
        ("bɝd", "bˈɜɹd"),
        ("ˈbɜːrd", "bˈɜɹd"),
        ("ˈbʌtn̩", "bˈʌtᵊn"),
        ("d͡ʒɔɪ", "ʤˈY"),
        ("'wɔ:tə", "wˈɔtə"),
        ("ˌɪn.fɚˈmeɪ.ʃən", "ˌɪnfəɹmˈAʃən"),
        ("strɛŋθ", "stɹˈɛŋθ"),
        ("nuː ˈjɔːk", "nˈu jˈɔk"),
        ("haʊs", "hˈWs"),
        ("gəʊ", "ɡˈO"),
    ],
)
def test_ipa_becomes_the_phonemes_it_has_learned(ipa, phonemes):
    assert from_ipa(ipa) == phonemes


@pytest.mark.parametrize("ipa", ["", " ", "ˈ", "lɔx", "ʁy", "ɑ̃", "Iŋ", "kǃ", "ma5", "a(r)"])
def test_what_it_has_not_learned_is_none(ipa):
    assert from_ipa(ipa) is None


def test_every_phoneme_is_one_of_the_model():
    known = json.loads(files("hibari").joinpath("assets", "vocab.json").read_text("utf-8"))
    # It writes a tapped t and a glottal stop in its own way before they are encoded.
    assert known.keys() >= _LEARNED - {"ɾ", "ʔ"} | {"T", "t"}
