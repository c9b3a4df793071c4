"""Figures in other languages: each row is what a reader of that language says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rows import rows
from tts_provider.speech import languages
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.reading import ReadingOptions, read


def read_figures(text: str, language: str) -> str:
    return languages.read_figures(MappedText(text), language).string


ROWS = {
    "es": {
        "Son las 15:30 y cuesta 5 €.": "Son las quince y treinta y cuesta cinco euros.",
        "3 y 3,5 el 2.3.2024, un 20 %.": "tres y tres coma cinco el dos de marzo de dos mil "
        "veinticuatro, un veinte por ciento.",
        "Cuesta 1.250,50 € o $1": "Cuesta mil doscientos cincuenta euros con cincuenta o un dólar",
        "21 €, 1 £": "veintiún euros, una libra",
        "a la 1:15, a las 2:00": "a la una y quince, a las dos",
        "el 1º y la 2ª": "el primero y la segunda",
        "-3 grados": "menos tres grados",
        "5kg": "cinco kg",
        "3,05 y 0,125": "tres coma cero cinco y cero coma uno dos cinco",
        "A&B, 2+2=4": "A y B, dos más dos igual a cuatro",
        "31.2.2024 no, 45/13/2024": "treinta y uno de febrero de dos mil veinticuatro no, "
        "cuarenta y cinco/trece/dos mil veinticuatro",
    },
    "fr": {
        "Il est 15:30, 15h30, 1h05 ou 8 h.": "Il est quinze heures trente, quinze heures trente, "
        "une heure cinq ou huit heures.",
        "Ça coûte 5 €, 71,80 €, 1 £.": "Ça coûte cinq euros, soixante et onze euros quatre-vingts, "
        "une livre.",
        "3,5 % le 1.3.2024": "trois virgule cinq pour cent le premier mars deux mille vingt-quatre",
        "le 1er, la 1re, le 2e": "le premier, la première, le deuxième",
        "1 234 567": "un million deux cent trente-quatre mille cinq cent soixante-sept",
    },
    "it": {
        "Sono le 15:30, costa 5 €.": "Sono le quindici e trenta, costa cinque euro.",
        "3,5 il 2/3/2024": "tre virgola cinque il due marzo duemilaventiquattro",
        "1.000 persone, 50%": "mille persone, cinquanta per cento",
    },
    "pt-BR": {
        "São 15:30, 14:00 e 1:00.": "São quinze e trinta, catorze horas e uma hora.",
        "R$ 5,50 e 2 £": "cinco reais e cinquenta e duas libras",
        "3,5 em 2/3/2024": "três vírgula cinco em dois de março de dois mil e vinte e quatro",
    },
    "ja": {
        "今日は3.5円、15:30に": "今日は3点五円、15時30分に",
        "2024/3/2、5%、¥1,200": "2024年3月2日、5パーセント、1200円",
        "１５：００，５％": "15時，5パーセント",
    },
    "zh": {
        "今天15:30，2024年3月2日": "今天十五点三十分，二零二四年三月二日",
        "3.5元，5%，¥12": "三点五元，百分之五，十二元",
        "105人，10010，2个": "一百零五人，一万零一十，两个",
        "20500000和100000001": "二千零五十万和一亿零一",
        "２０２４/3/2 2:05": "二零二四年三月二日 两点零五分",
        "-3℃": "负三摄氏度",
    },
    "de": {"Es ist 15:30.": "Es ist 15:30."},
    "hi": {"15 किताबें": "15 किताबें"},
}
CASES = [(language, *row) for language, rows in ROWS.items() for row in rows.items()]


@rows(("language", "written", "said"), CASES)
def test_figures_are_read_in_the_language_of_the_voice(language, written, said):
    assert read_figures(written, language) == said


@pytest.mark.parametrize("language", ["es", "fr", "it", "pt-BR", "zh"])
@given(text=st.text(alphabet="0123456789.,:/%€$£-+=& hºe年月", max_size=40))
@settings(max_examples=150, deadline=None)
def test_whatever_the_figures_none_is_left(language, text):
    said = read_figures(text, language)
    assert not any(character in "0123456789" for character in said)


@pytest.mark.parametrize("language", [*ROWS])
def test_words_alone_stay_as_they_are(language):
    text = "hola, bonjour e ciao"
    assert read_figures(text, language) == text


def test_a_passage_is_read_in_its_voices_language_and_words_know_where_they_were_written():
    text = "Son las 15:30 y cuesta 5 €, señora."
    (passage,) = read(text, ReadingOptions(language="es"))
    assert passage.spoken == "Son las quince y treinta y cuesta cinco euros, señora."
    written = {text[place.start : place.end] for place in passage.written_words()}
    assert {"15:30", "5", "€,", "señora."} & written
    (as_written,) = read(text, ReadingOptions(language="es", normalize=False))
    assert as_written.spoken == text
