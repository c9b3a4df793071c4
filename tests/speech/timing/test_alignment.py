from __future__ import annotations

import pytest

from rows import rows
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.reading import ReadingOptions, read
from tts_provider.speech.timing.alignment import align


def pairs_of(text: str, **options) -> list[tuple[str, str]]:
    """Each spoken word, and what was written for it."""
    return [
        (passage.spoken[word.spoken_start : word.spoken_end], text[word.start : word.end])
        for passage in read(text, ReadingOptions(**options))
        for word in passage.written_words()
    ]


@rows(
    ("text", "pairs"),
    [
        ("Hello, **big** world!", "Hello=Hello, big=big world=world!"),
        ("It costs $5.", "It=It costs=costs five=$5. dollars=$5."),
        ("$5 10%", "five=$5 dollars=$5 ten=10% percent=10%"),
        ("A. Dr. Who", "A=A. Doctor=Dr. Who=Who"),
        ("5 & 6 or [7](x)", "five=5 and=& six=6 or=or seven=7"),
        ("R&amp;D!", "R=R&amp;D! and=R&amp;D! D=R&amp;D!"),
        ("foxes—don't, 5–10", "foxes=foxes— don't=don't, five=5– to=5– ten=10"),
        ("on 3/5/2024 again", "on=on March=3/5/2024 fifth=3/5/2024 twenty=3/5/2024 "
         "twenty-four=3/5/2024 again=again"),
        ("x -- y", "x=x y=y"),
        ("One. Two!\n\n- three", "One=One. Two=Two! three=three"),
        ("你好 5", "你=你 好=好 five=5"),
        ("「你，好」 Hi世", "你=「你， 好=好」 Hi=Hi 世=世"),
        ("In 2024, twenty 24 people.", "In=In twenty=2024, twenty-four=2024, twenty=twenty "
         "twenty-four=24 people=people."),
        ("a 5 a 5 5 a five a 5 five 5 a 5", "a=a five=5 a=a five=5 five=5 a=a five=five a=a five=5 "
         "five=five five=5 a=a five=5"),
        ("3 * 4 - 2", "three=3 times=* four=4 minus=- two=2"),
        ("パーティーと『東京』。", "パー=パー ティー=ティー と=と 東=『東 京=京』。"),
    ],
)  # fmt: skip
def test_the_written_word_of_each_spoken_one(text, pairs):
    assert pairs_of(text) == [tuple(pair.split("=", 1)) for pair in pairs.split()]


def test_numbers_beside_each_other_share_their_words_by_what_each_is_said_as():
    assert pairs_of("1 1999 2") == [
        ("one", "1"),
        ("nineteen", "1999"),
        ("ninety-nine", "1999"),
        ("two", "2"),
    ]


@pytest.mark.parametrize(
    ("text", "together", "words"),
    [
        ("1 234 567 people", "1 234 567", "one million two hundred thirty-four thousand five "
         "hundred sixty-seven"),
        ("a $5 million house", "$5 million", "five million dollars"),
        ("for USD 5, or", "USD 5,", "five US dollars"),
        ("is $x + 1$.", "$x + 1$.", "x plus one"),
    ],
)  # fmt: skip
def test_what_is_one_number_or_said_in_another_order_is_one_word(text, together, words):
    said = [word for word, piece in pairs_of(text) if piece == together]
    assert " ".join(said) == words


def test_what_is_written_nowhere_belongs_to_what_is_before():
    text = MappedText("a b")
    said = text.splice([(1, 2, " and ")])
    places = align("a b", said.string, text.runs(), said.runs())
    assert [(place.start, place.end) for place in places] == [(0, 1), (0, 1), (2, 3)]
    said = text.splice([(0, 0, "so ")])
    places = align("a b", said.string, text.runs(), said.runs())
    assert [(place.start, place.end) for place in places] == [(0, 1), (0, 1), (2, 3)]


def test_places_are_those_of_the_whole_text():
    text = "One.\n\n\n![](x) `Two` three"
    assert pairs_of(text)[1:] == [("Two", "Two"), ("three", "three")]


def test_a_substitute_is_where_its_element_s_text_is():
    text = '<speak><sub alias="World Wide Web">WWW</sub> ok</speak>'
    assert pairs_of(text, ssml=True) == [
        *((word, "WWW") for word in ("World", "Wide", "Web")),
        ("ok", "ok"),
    ]
