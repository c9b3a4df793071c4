from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.errors import InvalidRequest
from tts_provider.speech.reading import Passage, Reader, ReadingOptions

OPTIONS = ReadingOptions(ssml=True)


def read_ssml(*pieces: str, options: ReadingOptions = OPTIONS) -> list[Passage]:
    reader = Reader(options)
    passages = [passage for piece in pieces for passage in reader.push(piece)]
    return passages + reader.flush()


def said(passages: list[Passage]) -> list[str | float]:
    return [passage.pause_s or passage.spoken for passage in passages]


DOCUMENTS = [
    ("<speak>Hello there.</speak>", ["Hello there."]),
    ("No root &amp; none needed.", ["No root and none needed."]),
    ('<?xml version="1.0"?>\n<speak version="1.1" xml:lang="en-US">Hi</speak>', ["Hi"]),
    ("One <break/> two", ["One", 0.4, "two"]),
    ('One <break time="500ms"/><break time="0.5s"/> two', ["One", 0.5, 0.5, "two"]),
    ('<break strength="x-strong"/>One', [1.2, "One"]),
    ("One [pause 1.5s] two [pause", ["One", 1.5, "two, pause"]),
    ("<p>One</p><p><s>Two</s><s>three</s></p>", ["One", "Two", "three"]),
    ('<say-as interpret-as="characters">AB 12</say-as>', ["A B one two"]),
    ('<say-as interpret-as="digits">1234</say-as>', ["one two three four"]),
    ('<say-as interpret-as="telephone">555-1234</say-as>', ["five five five, one two three four"]),
    ('<say-as interpret-as="date" format="dmy">3/4/2020</say-as>', ["April third twenty twenty"]),
    ('<say-as interpret-as="date">3/4/2020</say-as>', ["March fourth, twenty twenty"]),
    ('<say-as interpret-as="ordinal">21</say-as>', ["twenty-first"]),
    ('<say-as interpret-as="cardinal">2024</say-as> x', ["twenty twenty-four x"]),
    ('The <sub alias="World Wide Web">WWW</sub>.', ["The World Wide Web."]),
    ('<lang xml:lang="en-GB">Hi</lang>', ["Hi"]),
    ("a <!-- hidden --> b <![CDATA[<c>]]>", ["A b less than c greater than"]),
    ("5 &lt; 6, it&#39;s $5", ["five less than six, it's five dollars"]),
    ("**not** Markdown", ["not Markdown"]),
]


@rows(("document", "words"), DOCUMENTS)
def test_documents(document, words):
    assert said(read_ssml(document)) == words
    assert read_ssml(*document) == read_ssml(document)


def test_phonemes_are_on_the_word_that_they_are_for():
    (passage,) = read_ssml('5 <phoneme alphabet="ipa" ph="təˈmɑːtəʊz">tomatoes</phoneme>!')
    (phonemes,) = passage.phonemes
    assert passage.spoken[phonemes.start : phonemes.end] == "tomatoes"
    assert phonemes.ipa == "təˈmɑːtəʊz"


def test_phonemes_are_on_the_words_that_stand_for_their_own_number():
    (passage,) = read_ssml('5 <phoneme ph="fʌɪv">5</phoneme> 5, <phoneme ph="x">USD 5</phoneme>')
    assert passage.spoken == "five five five, five US dollars"
    assert [(one.start, one.end, one.ipa) for one in passage.phonemes] == [
        (5, 9, "fʌɪv"),
        (16, 31, "x"),
    ]


@rows(
    ("document", "reason"),
    [
        ("<speak>Hi", "<speak> is not closed"),
        ("<b>Hi</b>", "there is no <b> here; there are <speak>, <p>"),
        ("<speak><speak>Hi</speak></speak>", "there is no <speak> here"),
        ("Hi <break", "line 1 is not XML"),
        ("one\ntwo & three", "line 2 is not XML"),
        ("</speak><speak>", "not XML"),
        ("&copy;", "undefined entity"),
        ('<break time="5"/>', "500ms or 0.5s; got '5'"),
        ('<break time="11s"/>', "may take 10 s"),
        ("[pause 11s]", "may take 10 s"),
        ('<break strength="huge"/>', "strength is one of"),
        ('<break size="1"/>', "no attribute 'size'"),
        ("<sub>x</sub>", "needs the attribute alias"),
        ("<say-as>x</say-as>", "needs the attribute interpret-as"),
        ('<say-as interpret-as="song">x</say-as>', "got interpret-as='song'"),
        ('<sub alias="x"><p>y</p></sub>', "holds text only"),
        ('<phoneme alphabet="x-sampa" ph="x">y</phoneme>', "alphabet ipa"),
        ('<lang xml:lang="de">Ja</lang>', "speaks en; got xml:lang='de'"),
        ("<?php x?>", "processing instructions"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><speak>&a;</speak>", "not XML"),
        ("<p>" * 10_000, "nested 32 deep"),
    ],
)
def test_what_is_wrong_is_said_and_not_spoken(document, reason):
    with pytest.raises(InvalidRequest) as refusal:
        read_ssml(document)
    assert reason in refusal.value.message
    assert refusal.value.code == "invalid_ssml"
    with pytest.raises(InvalidRequest):
        read_ssml(*document)


PIECES = [
    *"<>&;/ .a5\n[]😀é",
    *(
        "<p>",
        "</p>",
        "<break/>",
        "<s>",
        "</s>",
        "[pause 1s]",
        "[pa",
        "&amp;",
        "<speak>",
        "</speak>",
    ),
    *('<sub alias="x y">', "</sub>", '<say-as interpret-as="digits">', "</say-as>", "<?xml", "?>"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_read_or_refused_however_it_arrives(text):
    def outcome(*pieces: str) -> list[Passage] | str:
        try:
            return read_ssml(*pieces)
        except InvalidRequest:
            return "refused"

    assert outcome(text) == outcome(*text)
