from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.speech.segment import SEGMENT_CHARACTERS, split_segments


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("Hello.", ["Hello."]),
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Dr. Smith paid 3.50 dollars. He left.", ["Dr. Smith paid 3.50 dollars.", "He left."]),
        ("no end at all", ["no end at all"]),
        ("A heading\n\nA paragraph.", ["A heading", "A paragraph."]),
        ('He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ('Meet J. Smith, e.g. Tuesday. "Fine."', ["Meet J. Smith, e.g. Tuesday.", '"Fine."']),
        ("It costs 2*3*4. *Really?* Yes…", ["It costs 2*3*4.", "*Really?* Yes…"]),
        ("今日は。元気ですか？はい", ["今日は。", "元気ですか？", "はい"]),
        ("wait... what? Yes.", ["wait... what?", "Yes."]),
        ("  \n ", []),
    ],
)
def test_sentences(text, segments):
    assert list(split_segments(text)) == segments


def test_a_long_sentence_is_cut_after_a_clause():
    sentence = "this is a clause of some length, " * 20
    parts = list(split_segments(sentence))
    assert len(parts) > 1
    assert all(part.endswith(",") for part in parts)


def test_a_word_without_end_is_cut_too():
    assert [len(part) for part in split_segments("a" * 700)] == [300, 300, 100]


@pytest.mark.parametrize("piece", ["…a", "a!\nA", "Mr.\n", "。a", ".", "\n ", "*", "A. ", '."'])
def test_twenty_thousand_characters_of_anything_are_split(piece):
    text = (piece * 20_000)[:20_000]
    parts = list(split_segments(text))
    assert "".join("".join(parts).split()) == "".join(text.split())


@given(st.text(alphabet=st.sampled_from('abAB .,!?…。*"\n-;0()'), max_size=2000))
def test_nothing_is_lost_and_nothing_is_too_long(text):
    parts = list(split_segments(text))
    assert all(0 < len(part) <= SEGMENT_CHARACTERS for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
