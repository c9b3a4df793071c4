from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.speech.reading import Passage, Reader, read

TEXT = "It costs $5, says Dr. Jones. Come at 10:30!\n\n* * *\n\nNo. 5 is alive"


def test_a_text_is_read_as_passages():
    assert list(read(TEXT)) == [
        Passage("It costs $5, says Dr. Jones.", "It costs five dollars, says Doctor Jones."),
        Passage("Come at 10:30!", "Come at ten thirty!"),
        Passage("No. 5 is alive", "number five is alive"),
    ]


def test_without_words_the_text_is_left_to_the_engine():
    assert [passage.words for passage in read(TEXT, words=False)] == [
        "It costs $5, says Dr. Jones.",
        "Come at 10:30!",
        "No. 5 is alive",
    ]


@pytest.mark.parametrize(
    "text", ["", " ", "...", "\u200b", " . \n . ", "***", "![](https://x.org)"]
)
def test_what_has_nothing_to_say_is_left_out(text):
    assert list(read(text)) == []
    around = f"One.\n\n{text}\n\nTwo."
    assert [passage.words for passage in read(around)] == ["One.", "Two."]


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_a_text_in_pieces_is_the_whole_text(cuts):
    reader, places = Reader(), [0, *sorted(cuts), len(TEXT)]
    passages = [p for a, b in itertools.pairwise(places) for p in reader.push(TEXT[a:b])]
    assert [*passages, *reader.flush()] == list(read(TEXT))
    assert reader.characters == 0


def test_a_writer_who_pauses_is_heard_as_far_as_the_clause_goes():
    reader = Reader()
    assert reader.push("When it rains, 5 ca") == []
    assert reader.take_clause() == [Passage("When it rains,", "When it rains,")]
    assert reader.characters == len("5 ca")
    assert reader.flush() == [Passage("5 ca", "five ca")]
