from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.speech.segment import SEGMENT_CHARACTERS, Segmenter, split_segments


@rows(
    ("text", "segments"),
    [
        ("Hello.", ["Hello."]),
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Dr. Smith paid 3.50 dollars. He left.", ["Dr. Smith paid 3.50 dollars.", "He left."]),
        ("no end at all", ["no end at all"]),
        ("A heading\n\nA paragraph.", ["A heading", "A paragraph."]),
        ('He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ('Meet J. Smith, e.g. Tuesday. "Fine."', ["Meet J. Smith, e.g. Tuesday.", '"Fine."']),
        ("It costs 2*3*4. *Really?* Yes…", ["It costs 2*3*4.", "*Really?*", "Yes…"]),
        ("今日は。元気ですか？はい", ["今日は。", "元気ですか？", "はい"]),
        ("wait... what? Yes.", ["wait... what?", "Yes."]),
        ("  \n ", []),
    ],
)
def test_sentences(text, segments):
    assert list(split_segments(text)) == segments


@rows(
    "text",
    [
        "He said “stop.”|Then he left.",
        "It is.*|Next.",
        "One.|– Two.|— Three.|• Four.",
        "As known.¹|Next, as known.[2]|Then.",
        "He left.|6 people came!|7 more?|8.",
        "it works.|\nthen do this",
        "(He did.)|Then.",
        "السلام عليكم؟|نعم۔|لا",
        "Բարև։|Ինչպես եք",
        "សួស្តី។|អ្នក",
        "ሰላም።|እንዴት",
        "क्या हाल है।|ठीक",
        # Abbreviations: the next word tells.
        "In the U.S.A. it rains in the U.S.|He left the U.S. Army.",
        "She has a Ph.D.|He too, with Ph.D. Jones.",
        "J.R.R. Tolkien met J. A. Smith.|Plan B.|A new one.",
        "At bldg. 7, rm. 12 (incl. 8 beds, elev. 33 ft).|Done.",
        "Use e.g. this, eg. That, i.e. Those.",
        "Messrs. Smith and Mme. Curie, bzw. Nr. 5, Tel. 12.",
        "Smith vs. Dr. Jones Inc. won.|It is Acme Inc.|The end.",
        "He lives on Elm St.|It is near St. Paul.",
        "At 5 p.m.|The train left at 6 a.m. Sunday.",
        "See No. 5 on p. 12, fig. 3, vol. 2.|Then Ver. 2.",
        "Costs $3.50.|Go to example.com.|Now.",
    ],
)
def test_where_sentences_end(text):
    assert [*split_segments(text.replace("|", " "))] == [part.strip() for part in text.split("|")]


@rows(
    ("begun", "rest"),
    [
        ("It costs 3.", "50 now."),
        ("See example.", "com now."),
        ("By J.K.", " Rowling."),
        ("By J.", "K. Rowling"),
        ("It is 98.", "6 degrees."),
        ("at 10:", "30"),
        ("It has 1,", "000 men."),
        ("in the U.S.", " Army"),
        ("Dr.", " Who"),
        ("see x.org/?", "q=1"),
    ],
)
def test_a_pause_cuts_no_token(begun, rest):
    segmenter = Segmenter()
    assert segmenter.push(begun) == []
    assert segmenter.take_clause(is_closed=False, is_patient=False) == []
    spans = [*segmenter.push(rest), *segmenter.flush()]
    text = begun + rest
    assert [text[a:b] for a, b in spans] == list(split_segments(text))


@rows(
    ("text", "is_closed", "is_patient", "is_over"),
    [
        ("Is it so?", False, False, True),
        ("Wait!", False, False, True),
        ("你好。", False, False, True),
        ("It is.", False, False, False),
        ("It is.", True, False, True),
        ("It is.", False, True, True),
        ("At 5 p.m.", True, False, False),
        ("At 5 p.m.", True, True, True),
        ("Ask Dr.", True, True, False),
    ],
)
def test_when_a_pause_ends_a_sentence(text, is_closed, is_patient, is_over):
    segmenter = Segmenter()
    segmenter.push(text)
    spans = segmenter.take_clause(is_closed=is_closed, is_patient=is_patient)
    assert spans == ([(0, len(text))] if is_over else [])


def test_a_long_sentence_is_cut_after_a_clause():
    for sentence, comma in (("this is a clause of some length, ", ","), ("我们去吃饭了，", "，")):
        parts = list(split_segments(sentence * 60))
        assert len(parts) > 1
        assert all(part.endswith(comma) for part in parts)


def test_a_word_without_end_is_cut_too():
    assert [len(part) for part in split_segments("a" * 700)] == [300, 300, 100]


@rows("sign", ["👩‍🚀", "e\u0301", "❤️", "👍🏽", "क्षि"])
def test_no_sign_is_cut_in_two(sign):
    text = sign * (700 // len(sign))
    for part in split_segments(text):
        assert part == sign * (len(part) // len(sign))


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
