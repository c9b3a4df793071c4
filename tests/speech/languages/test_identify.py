"""Which language a text in Latin letters is in, and who says it."""

from __future__ import annotations

import pytest

from tts_provider.speech.engine import Voice
from tts_provider.speech.languages.identify import Guess, identify
from tts_provider.speech.reading import Cast, Passage, Reader, ReadingOptions
from tts_provider.voices.languages import readers_beside

SURE = {
    "en": ("Hello, how are you today?",),
    "fr": (
        "Bonjour, comment allez-vous ?",
        "Le livre coûte 12,50 €.",
        "Mieux vaut tard que jamais.",
    ),
    "es": ("La reunión empieza a las 15:30.", "¿Puede decirme cómo llegar a la biblioteca?"),
    "it": ("Questa è una prova.", "Non sapeva che cosa dire a sua sorella."),
    "pt": ("O comboio parte às oito da manhã.", "Ela não sabe o que aconteceu ontem."),
    "de": ("Guten Morgen, wie geht es Ihnen?",),
}
UNSURE = ("No, no, no.", "Taxi hotel bar", "Los Angeles and San Francisco", "John von Neumann")
NONE = (
    "",
    "Hola",
    "Ciao bella",
    "12 + 3 = 15",
    "Das heißt Привет, мир, wie geht es Ihnen?",
    "電車で行く the train to the coast",
)


def test_a_language_is_told_by_three_words_surely_or_not() -> None:
    rows = [(text, Guess(language, True)) for language in SURE for text in SURE[language]]
    assert [(text, identify(text)) for text, _ in rows] == rows
    guesses = [(text, identify(text)) for text in UNSURE]
    assert not [text for text, guess in guesses if guess is None or guess.is_sure]
    assert not [text for text in NONE if identify(text) is not None]


def _voice(name: str, language: str, source: str = "kokoro") -> Voice:
    return Voice(name, name, "female" if name[1] == "f" else "male", source, language=language)


VOICES = [
    _voice("am_michael", "en-US"),
    _voice("af_heart", "en-US"),
    _voice("bf_emma", "en-GB"),
    _voice("ef_dora", "es"),
    _voice("em_alex", "es"),
    _voice("ff_siwis", "fr"),
    _voice("jf_alpha", "ja"),
    _voice("female", "en-US", "hibari"),
]
BY_NAME = {voice.id: voice for voice in VOICES}


def test_readers_are_of_the_same_engine_and_gender() -> None:
    def names(voice: str) -> dict[str, str]:
        readers = readers_beside(BY_NAME[voice], VOICES)
        return {language: reader.id for language, reader in readers.items()}

    assert names("am_michael") == {"es": "em_alex", "fr": "ff_siwis", "ja": "jf_alpha"}
    assert names("bf_emma") == {"es": "ef_dora", "fr": "ff_siwis", "ja": "jf_alpha"}
    assert names("ff_siwis") == {"en": "af_heart", "es": "ef_dora", "ja": "jf_alpha"}
    assert names("female") == {}


def _reader(voice: str, *, follows: bool = True) -> Reader:
    def options(voice: Voice) -> ReadingOptions:
        readers = readers_beside(voice, VOICES) if follows else {}
        return ReadingOptions(language=voice.language, readers=readers, voice_tags=True)

    return Reader(options(BY_NAME[voice]), Cast(BY_NAME.__getitem__, options))


def _said(passages: list[Passage]) -> list[tuple[str | None, str]]:
    return [(passage.voice and passage.voice.id, passage.spoken) for passage in passages]


MIXED = (
    "It costs $5. Le livre coûte 12,50 €. Bonjour ! La reunión empieza a las 9:15. "
    "Taxi, hotel or bar? ¡Hola!"
)


def test_a_passage_is_said_by_a_voice_of_its_language_in_its_words() -> None:
    said = [
        (None, "It costs five dollars."),
        ("ff_siwis", "Le livre coûte douze euros cinquante."),
        ("ff_siwis", "Bonjour !"),  # too short to tell: as the one before
        ("em_alex", "La reunión empieza a las nueve y quince."),
        (None, "Taxi, hotel or bar?"),  # not surely English, and the voice is
        (None, "¡Hola!"),
    ]
    assert _said([*_reader("am_michael").read(MIXED)]) == said
    in_pieces = _reader("am_michael")
    passages = [passage for letter in MIXED for passage in in_pieces.push(letter)]
    assert _said([*passages, *in_pieces.flush()]) == said


@pytest.mark.parametrize("voice", ["ff_siwis", "ef_dora", "jf_alpha"])
def test_english_in_a_voice_of_another_language(voice: str) -> None:
    text = "The train leaves at 5:30 p.m. and costs $12."
    assert _said([*_reader(voice).read(text)]) == [
        ("af_heart", "The train leaves at five thirty P M and costs twelve dollars.")
    ]


def test_what_no_voice_speaks_and_what_nobody_asked_for_stay() -> None:
    german = "Guten Morgen, wie geht es Ihnen?"
    assert [voice for voice, _ in _said([*_reader("af_heart").read(german)])] == [None]
    alone = _reader("af_heart", follows=False).read("Je ne sais pas pourquoi.")
    assert _said([*alone]) == [(None, "Je ne sais pas pourquoi.")]


def test_a_voice_that_the_text_names_is_followed_too() -> None:
    text = (
        "[voice:bf_emma] Good morning to everyone. Je ne sais pas pourquoi. [voice:af_heart] Oui."
    )
    assert [voice for voice, _ in _said([*_reader("am_michael").read(text)])] == [
        "bf_emma",
        "ff_siwis",
        "af_heart",
    ]
