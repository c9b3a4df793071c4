from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from tts_provider.speech.engine import Word
from tts_provider.speech.reading import ReadingOptions, read
from tts_provider.speech.timing.word_times import time_words

PIECES = [
    *(
        "One two",
        "$5.50",
        "Dr. Smith",
        "3/5/2024",
        "R&amp;D",
        "well—known",
        "10–20%",
        "你好",
        "e.g.",
    ),
    *(" ", ", ", ". ", "\n\n", "**", "`", "- ", "1. ", "😀", "[a](http://b.c)", "|", "!", "(", ")"),
]
mixed_text = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


def told(text: str, *times: tuple[str, int, int]) -> list[tuple[str, int, int]]:
    """The written words of a one-passage text whose engine says when it speaks these."""
    (passage,) = read(text)
    found, at = [], 0
    for word, start, end in times:
        at = passage.spoken.index(word, at)
        found.append(Word(start, end, at, at + len(word)))
        at += len(word)
    return [(word.text, word.start, word.end) for word in time_words(passage, found)]


def test_a_written_word_is_spoken_from_the_first_to_the_last_of_its_words():
    spoken = [("It", 0, 10), ("costs", 10, 50), ("five", 60, 90), ("dollars", 90, 130)]
    assert told("It costs $5.", *spoken) == [("It", 0, 10), ("costs", 10, 50), ("$5.", 60, 130)]


def test_words_that_ssml_has_others_for_are_told_as_they_were_written():
    for text, *written in (
        ('The <sub alias="World Wide Web">WWW</sub>.', "The", "WWW."),
        ('<sub alias="aspirin">ASS</sub>, <sub alias="a lot">10&#160;mg</sub>', "ASS,", "10 mg"),
        ('a (<sub alias="chapter one">Ch. 1</sub>)', "a", "(Ch. 1)"),
        ('<sub alias="are">R</sub> <sub alias="you">U</sub> ok?', "R", "U", "ok?"),
        ('<say-as interpret-as="digits">12</say-as> times', "12", "times"),
        ('<say-as interpret-as="characters">ab</say-as> no', "ab", "no"),
        ('<phoneme ph="a">R&amp;D</phoneme> now', "R&D", "now"),
        ('<sub alias="nothing was written"></sub> now', "nothing was written", "now"),
    ):
        (passage,) = read(text, ReadingOptions(ssml=True))
        spans = re.finditer(r"\w+", passage.spoken)
        times = [Word(at, at + 1, *match.span()) for at, match in enumerate(spans)]
        assert [word.text for word in time_words(passage, times)] == written, text


def test_a_price_in_two_words_is_one_on_one_line():
    spoken = [("five", 0, 10), ("million", 10, 30), ("dollars", 40, 60), ("each", 60, 80)]
    assert told("$5\nmillion each", *spoken) == [("$5 million", 0, 60), ("each", 60, 80)]


def test_numbers_have_their_own_times_beside_their_own_words():
    spoken = [
        ("twenty", 0, 10),
        ("twenty-four", 10, 20),
        ("twenty", 20, 30),
        ("twenty-four", 30, 40),
    ]
    assert told("2024, twenty 24", *spoken) == [
        ("2024,", 0, 20),
        ("twenty", 20, 30),
        ("24", 30, 40),
    ]


def test_words_that_are_said_in_one_go_share_its_time_by_their_length():
    assert told("of the cat", ("of", 0, 50), ("cat", 60, 90)) == [
        ("of", 0, 20),
        ("the", 20, 50),
        ("cat", 60, 90),
    ]
    assert told("of the cat", ("of the", 0, 50), ("cat", 60, 90)) == [
        ("of", 0, 20),
        ("the", 20, 50),
        ("cat", 60, 90),
    ]
    assert told("a cat", ("cat", 0, 40)) == [("a", 0, 10), ("cat", 10, 40)]


def test_an_engine_that_says_nothing_has_no_words():
    assert told("Hello there.") == []


def test_places_are_those_of_the_text_with_its_markup():
    (passage,) = read("- Say **R&amp;D**!")
    times = [Word(0, 5, 0, 3, True), Word(5, 9, 4, 5, True), Word(9, 20, 6, 9, True)]
    say, r_and_d = time_words(passage, times)
    assert say == Word(0, 5, 2, 5, True, "Say")
    assert r_and_d == Word(5, 20, 8, 18, True, "R&D!")


@given(mixed_text, st.data())
def test_every_spoken_word_is_told_once_and_in_order(text, data):
    for passage in read(text):
        spoken = [match.span() for match in re.finditer(r"\w+", passage.spoken)]
        kept = [one for one in spoken if data.draw(st.booleans())] or spoken
        if not kept:
            continue
        times = [Word(100 * n, 100 * n + 80, *span) for n, span in enumerate(kept)]
        words = time_words(passage, times)
        places = {(place.start, place.end) for place in passage.written_words()}
        assert [(word.text_start, word.text_end) for word in words] == sorted(places)
        assert all(a.end <= b.start for a, b in itertools.pairwise(words))
        assert all(word.start <= word.end for word in words)
        assert all(word.text.strip() for word in words)
