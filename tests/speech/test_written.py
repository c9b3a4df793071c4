"""What each spoken word stands for, by the steps of `speech/normalize`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.speech.test_normalize import TABLE, mixed_text
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize import normalize
from tts_provider.speech.timing.alignment import spoken_words


def written(text: MappedText, original: str) -> str:
    """`five dollars=$5 | a`: what is said, and what is written for it where that is not the same;
    words for the same are together."""
    said = list[tuple[str, tuple[int, int]]]()
    for start, end in spoken_words(text.string):
        word, span = text.string[start:end], text.span(start, end)
        if said and said[-1][1] == span:
            word = f"{said.pop()[0]} {word}"
        said.append((word, span))
    pieces = [(word, original[start:end].strip()) for word, (start, end) in said]
    return " | ".join(word if word == piece else f"{word}={piece}" for word, piece in pieces)


# fmt: off
CHARACTERS = [
    ("① Ⅳ ＡＢＣ１２ 𝐇𝐢 ﬁne", "one=① | IV=Ⅳ | ABC=ＡＢＣ | twelve=１２ | Hi=𝐇𝐢 | fine=ﬁne"),
    ("⅕ H₂O 10⁶ №5 ★",
     "one fifth=⅕ | H | two=₂ | O | ten=10 | to the power of six=⁶ | number=№ | five=5 | star=★"),
    ("x² and words²", "x | squared=² | and | words"),
    ("F♯ or B♭", "F | sharp=♯ | or | B | flat=♭"),
    ("a → b", "a | to=→ | b"),
    ("so\u200bft 5\u00a0km", "soft=so\u200bft | five=5 | kilometers=km"),
    ("25℃ 5㎞", "twenty-five=25 | degrees Celsius=℃ | five=5 | kilometers=㎞"),
]
MARKS = [
    ("file(s) (or) [two]", "files=file(s | or | two"),
    ("a 401(k)", "a | four=4 | oh=0 | one=1 | k"),
    ("f(x) = x^2", "f | of=( | x | equals== | x | squared=^2"),
    ("O(n^2) or O(n log n)", "O of=O( | n | squared=^2 | or | O of=O( | n | log | n"),
    ("2*x + x*y", "two=2 | times=* | x | plus=+ | x | times=* | y"),
    ("3 × 4 * 5", "three=3 | times=× | four=4 | times=* | five=5"),
    ("10**2", "ten=10 | squared=**2"),
    ("pages 5 - 10", "pages | five=5 | to=- | ten=10"),
    ("10 - 5 = 5", "ten=10 | minus=- | five=5 | equals== | five=5"),
    ("x^2 - 4x", "x | squared=^2 | minus=- | four=4 | x"),
    ("$-5", "minus=$- | five=5 | dollars=$-"),
    (".5 or .12", "point five=.5 | or | point one two=.12"),
]
GROUPS = [
    ("1 234 000 of 1", "one million two hundred thirty-four thousand=1 234 000 | of | one=1"),
    ("12\u202f500 m", "twelve thousand five hundred=12\u202f500 | meters=m"),
    ("€1.234,56",
     "one thousand two hundred thirty-four=1.234,56 | euros and=€ | fifty-six=1.234,56 | cents=€"),
    ("1e-5 s", "one times ten to the power of minus five=1e-5 | seconds=s"),
]
ADDRESSES = [
    ("(see https://www.example.com/).", "see | example dot com=https://www.example.com/"),
    ("info@example.com, me", "info at example dot com=info@example.com | me"),
    ("in ~/.bashrc and /etc/passwd",
     "in | tilde slash dot bashrc=~/.bashrc | and | slash E T C slash passwd=/etc/passwd"),
    ("10.0.0.1:80 5", "one zero dot zero dot zero dot one colon eight zero=10.0.0.1:80 | five=5"),
    ("#OpenSource @user_name", "hashtag Open Source=#OpenSource | at user name=@user_name"),
]
TELEPHONES = [
    ("Call 555-123-4567",
     "Call | five five five=555 | one two three=123 | four five six seven=4567"),
    ("+1 (555) 123-4567",
     "plus=+ | one=1 | five five five=555 | one two three=123 | four five six seven=4567"),
    ("+1-800-FLOWERS", "plus one=+1- | eight hundred=800 | flowers=FLOWERS"),
    ("call 911 or 5", "call | nine one one=911 | or | five=5"),
    ("my SSN is 111-11-1111",
     "my | SSN | is | one one one=111 | one one=11 | one one one one=1111"),
    ("IBAN DE89 3704 0044",
     "Iban=IBAN | DE | eight nine=89 | three seven zero four=3704 | zero zero four four=0044"),
    ("flight UA 1234 at 5", "flight | UA | one two three four=1234 | at | five=5"),
]
PLACES = [
    ("708 N 1st Ave NW", "seven zero eight=708 | North=N | first=1st | Avenue=Ave | Northwest=NW"),
    ("221B Baker St in", "two twenty-one=221 | B | Baker | Street=St | in"),
    ("Austin, TX 78701-1234",
     "Austin | Texas=TX | seven eight seven zero one=78701 | one two three four=1234"),
]
ABBREVIATIONS = [
    ("Dr. Smith, Ms Po", "Doctor=Dr. | Smith | Miz=Ms | Po"),
    ("Main St. in St. Louis", "Main | Street=St. | in | Saint=St. | Louis"),
    ("e.g. pears, etc. Then", "for example=e.g. | pears | et cetera=etc. | Then"),
    ("No. 5, #6, v7", "number=No. | five=5 | number=# | six=6 | version=v | seven=7"),
    ("w/ 10, w/o", "with=w/ | ten=10 | without=w/o"),
]
ROMAN = [
    ("Louis XIV and Henry VIII", "Louis | the fourteenth=XIV | and | Henry | the eighth=VIII"),
    ("Chapter IV, World War II", "Chapter | four=IV | World | War | two=II"),
]
DATES = [
    ("3/5/2024 or 2024-03-05",
     "March fifth twenty twenty-four=3/5/2024 | or | March fifth twenty twenty-four=2024-03-05"),
    ("March 5, 2024", "March | fifth=5 | twenty twenty-four=2024"),
    ("Jan. 5-7", "January=Jan | fifth=5 | to=- | seventh=7"),
    ("the 26th of May 2012", "the | twenty-sixth=26th | of | May | twenty twelve=2012"),
    ("25 jul 2012", "the twenty-fifth of=25 | July=jul | twenty twelve=2012"),
    ("5-7 May", "the fifth=5 | to=- | seventh of=7 | May"),
    ("March 2024", "March | twenty twenty-four=2024"),
    ("in 2024-W05-1", "in | Monday of week five of twenty twenty-four=2024-W05-1"),
    ("the Q3'23 of Q1 2024",
     "the | third quarter=Q3 | of=' | twenty twenty-three=23 | of | the first quarter of=Q1 | "
     "twenty twenty-four=2024"),
    ("due 5/12 now", "due | May twelfth=5/12 | now"),
]
YEARS = [
    ("In 2024, twenty 24", "In | twenty twenty-four=2024 | twenty | twenty-four=24"),
    ("340 A.D. and 50 BC", "three forty=340 | AD=A.D. | and | fifty=50 | BC"),
    ("the 1990s, 1960s-80s",
     "the | nineteen nineties=1990s | nineteen sixties=1960s | to=- | eighties=80s"),
    ("1914-1918 5", "nineteen fourteen=1914 | to=- | nineteen eighteen=1918 | five=5"),
]
TIMES = [
    ("at 9:05 a.m. Then", "at | nine oh five=9:05 | A M=a.m. | Then"),
    ("5pm EST", "five=5 | P M=pm | E S T=EST"),
    ("3:00 o'clock", "three=3:00 | o'clock"),
    ("1.59 p.m.", "one fifty-nine=1.59 | P M=p.m."),
    ("9:30 GMT-5", "nine thirty=9:30 | G M T=GMT | minus five=-5"),
    ("4:00 am - 8:12 pm", "four=4:00 | A M=am | to=- | eight twelve=8:12 | P M=pm"),
    ("1:23:45 2", "one hour twenty-three minutes and forty-five seconds=1:23:45 | two=2"),
    ("14:00+02:00", "fourteen hundred=14:00 | plus two=+02:00"),
]
MONEY = [
    ("$5 or -$1", "five=5 | dollars=$ | or | minus=- | one=1 | dollar=$"),
    ("$3.50 5", "three=3.50 | dollars and=$ | fifty=3.50 | cents=$ | five=5"),
    ("20 € and 5 EUR", "twenty=20 | euros=€ | and | five=5 | euros=EUR"),
    ("$1.2 million", "one point two=1.2 | million | dollars=$"),
    ("USD 5m", "five=5 | million=m | US dollars=USD"),
    ("$5 / month, $1/mo",
     "five=5 | dollars=$ | per=/ | month | one=1 | dollar=$ | per=/ | month=mo"),
    ("$5-$10", "five=5 | dollars=$ | to=- | ten=10 | dollars=$"),
    ("5 ¢ 5", "five=5 | cents=¢ | five=5"),
]
FRACTIONS = [
    ("5 1/2 ft", "five and=5 | a half=1/2 | feet=ft"),
    ("2½ cups", "two and=2 | a half=½ | cups"),
    ("2/3rds of 3/4 tsp", "two thirds=2/3rds | of | three quarters=3/4 | teaspoon=tsp"),
]
UNITS = [
    ("5 km, 10kg 5", "five=5 | kilometers=km | ten=10 | kilograms=kg | five=5"),
    ("100 million kg", "one hundred=100 | million | kilograms=kg"),
    ("90 km/h, 5 W/m²",
     "ninety=90 | kilometers=km | per=/ | hour=h | five=5 | watts=W | per=/ | square meter=m²"),
    ("41 km³, 8 sq. ft.", "forty-one=41 | cubic=³ | kilometers=km | eight=8 | square=sq | feet=ft"),
    ("a 5-km run, 12\" pizza", "a | five kilometer=5-km | run | twelve inch=12\" | pizza"),
    ("5'10\" 5", "five foot ten=5'10\" | five=5"),
    ("5–10 km", "five=5 | to=– | ten=10 | kilometers=km"),
    ("2x8 m, 3x faster", "two=2 | by=x | eight=8 | meters=m | three=3 | times=x | faster"),
]
NUMBERS = [
    ("a 5 a 5 5 a five a 5 five 5 a 5",
     "a | five=5 | a | five=5 | five=5 | a | five | a | five=5 | five | five=5 | a | five=5"),
    ("1 1999 2", "one=1 | nineteen ninety-nine=1999 | two=2"),
    ("1st, 22nd and 1,000th", "first=1st | twenty-second=22nd | and | one thousandth=1,000th"),
    ("-5-10", "minus=- | five=5 | to=- | ten=10"),
    ("3:1 of 1.2.3", "three=3 | to=: | one=1 | of | one point two point three=1.2.3"),
    ("747-400 and 50-50",
     "seven hundred forty-seven=747 | four hundred=400 | and | fifty=50 | fifty=50"),
]
SYMBOLS = [
    ("Q&A, C# and C++", "Q | and=& | A | C | sharp=# | and | C | plus=+ | plus=+"),
    ("a == b, 5 >= 3", "A=a | equals=== | b | five=5 | greater than or equal to=>= | three=3"),
    ("and/or 50% of ~5", "and or=and/or | fifty=50 | percent=% | of | about=~ | five=5"),
    ("Settings > Wi-Fi", "Settings | Wi-Fi"),
]
ROWS = [
    *CHARACTERS, *MARKS, *GROUPS, *ADDRESSES, *TELEPHONES, *PLACES, *ABBREVIATIONS, *ROMAN, *DATES,
    *YEARS, *TIMES, *MONEY, *FRACTIONS, *UNITS, *NUMBERS, *SYMBOLS,
]
# fmt: on


@pytest.mark.parametrize(("text", "pieces"), ROWS)
def test_what_is_written_for_each_word(text, pieces):
    assert written(normalize(MappedText(text)), text) == pieces


@pytest.mark.parametrize("text", [text for text, _ in TABLE])
def test_no_word_of_a_reading_comes_from_nowhere(text):
    no_word_comes_from_nowhere(text)


@given(mixed_text)
def test_no_word_comes_from_nowhere(text):
    no_word_comes_from_nowhere(text)


def no_word_comes_from_nowhere(text: str) -> None:
    said = normalize(MappedText(text))
    for word in spoken_words(said.string):
        start, end = said.span(*word)
        assert text[start:end].strip()


@given(st.lists(st.text("abcdefghé", min_size=2), min_size=1))
def test_plain_words_stand_for_themselves(words):
    text = " ".join(words)
    said = normalize(MappedText(text))
    assert all(said.span(*word) == word for word in spoken_words(said.string))


def test_a_respelt_word_stands_for_the_one_that_is_written():
    text = "5 sql, NVIDIA 5"
    said = normalize(Lexicon({"sql": "S 2 Q", "NVIDIA": "en vidia"}).respell(MappedText(text)))
    assert written(said, text) == "five=5 | S two Q=sql | en vidia=NVIDIA | five=5"


def test_a_short_text_that_comes_again_knows_what_was_written_where_it_stands():
    """It is read once; a respelled one has other places, and is read anew."""
    first, again = (normalize(MappedText("$5 a day")) for _ in range(2))
    assert first is again
    respelled = normalize(MappedText("$5 per day").sub(re.compile("per"), "a"))
    assert respelled.string == first.string
    assert respelled.runs() != first.runs()
