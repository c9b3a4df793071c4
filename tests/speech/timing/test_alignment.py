from __future__ import annotations

import pytest

from tts_provider.speech.reading import ReadingOptions, read


def pairs_of(text: str, **options) -> list[tuple[str, str]]:
    """Each spoken word, and what was written for it."""
    return [
        (passage.words[word.words_start : word.words_end], text[word.start : word.end])
        for passage in read(text, ReadingOptions(**options))
        for word in passage.written_words()
    ]


@pytest.mark.parametrize(
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


def test_places_are_those_of_the_whole_text():
    text = "One.\n\n\n![](x) `Two` three"
    assert pairs_of(text)[1:] == [("Two", "Two"), ("three", "three")]


def test_a_substitute_is_where_its_element_is():
    text = '<speak><sub alias="World Wide Web">WWW</sub> ok</speak>'
    element = text[7:-11]
    assert pairs_of(text, ssml=True) == [
        *((word, element.removesuffix("</sub>")) for word in ("World", "Wide", "Web")),
        ("ok", "ok"),
    ]
