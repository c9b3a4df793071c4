from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Voice
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize import normalize
from tts_provider.speech.reading import Cast, Passage, Reader, ReadingOptions, read

TEXT = "It costs $5, says Dr. Jones. Come at 10:30!\n\n* * *\n\nNo. 5 is alive"
PASTED = """\
# What's *new* in 2.0

Prices start at **$3.50** / month [1]. See [the docs](https://x.org/a_(b)) or example.com. 🎉

1. Faster: 5-10x on an i7-12700K.
2. Cheaper -- by 20 %!
- [ ] later

| a | b |
|---|---|
| 1 | 2 |

```python
print("hi")
```
> “J.K. Rowling,” he said, “was born in 1965.”
<think>Hm.</think>
Milk
Eggs
"""


def words_of(text: str, **options) -> list[str]:
    return [passage.spoken for passage in read(text, ReadingOptions(**options))]


def test_a_text_is_read_as_passages():
    assert list(read(TEXT)) == [
        Passage("It costs $5, says Dr. Jones.", "It costs five dollars, says Doctor Jones.", 0, 28),
        Passage("Come at 10:30!", "Come at ten thirty!", 29, 43),
        Passage("No. 5 is alive", "number five is alive", 52, 66),
    ]


def test_a_pasted_text():
    assert words_of(PASTED) == [
        "What's new in two point zero",
        "Prices start at three dollars and fifty cents per month.",
        "See the docs or example dot com.",
        "one, Faster: five to ten times on an i seven twelve thousand seven hundred K.",
        "two, Cheaper, by twenty percent!",
        "later",
        "A, b",
        "one, two",
        '"J.K. Rowling," he said, "was born in nineteen sixty-five."',
        "Milk",
        "Eggs",
    ]


def test_without_words_only_the_structure_is_read():
    assert words_of("**5** km, [x](y)\n\n$5 😀", normalize=False) == ["5 km, x", "$5"]


@pytest.mark.parametrize(("language", "words"), [("en", "five"), ("en-GB", "five"), ("de", "5")])
def test_english_words_are_for_english_voices(language, words):
    assert words_of("**5**", language=language) == [words]


@pytest.mark.parametrize(
    "text",
    ["", " ", "...", "\u200b", " . \n . ", "***", "![](https://x.org)", "😀", "```\nx\n```", "[1]"],
)
@pytest.mark.parametrize("words", [True, False])
def test_what_has_nothing_to_say_is_left_out(text, words):
    assert words_of(text, normalize=words) == []
    assert words_of(f"One.\n\n{text}\n\nTwo.", normalize=words) == ["One.", "Two."]


def read_in_pieces(text: str, cuts: list[int]) -> list[Passage]:
    reader, places = Reader(), [0, *sorted(cuts), len(text)]
    passages = [p for a, b in itertools.pairwise(places) for p in reader.push(text[a:b])]
    passages += reader.flush()
    assert reader.characters == 0
    return passages


@pytest.mark.parametrize("text", [TEXT, PASTED])
def test_a_text_in_pieces_is_the_whole_text(text):
    whole = list(read(text))
    assert read_in_pieces(text, list(range(len(text)))) == whole
    for cut in range(len(text)):
        assert read_in_pieces(text, [cut]) == whole


PIECES = [
    *' .,;:!?-_*`#~|()[]<>&$"\n15Aé你。，😀\u0301–…',
    *("**", "```\n", "\n\n", "\n- ", "\n1. ", " Next", " Dr.", " St.", " U.S.", " e.g.", " 3.50"),
    *(" example.com", " J.K.", " The", "?\n", ". A", "[a](b)", "[1]", "<think>", "<br>", "$5", "%"),
    *("a long clause of words, ", "x" * 40 + " ", "你好，世界。", "&amp;", " 10:30", " 5-10 km"),
]
mixed_text = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(mixed_text, st.data())
def test_any_text_in_pieces_is_the_whole_text(text, data):
    whole = list(read(text))
    assert read_in_pieces(text, list(range(len(text)))) == whole
    assert read_in_pieces(text, [data.draw(st.integers(0, len(text)))]) == whole


@given(mixed_text)
def test_passages_and_their_words_have_places_that_ascend_within_the_text(text):
    done = 0
    for passage in read(text):
        assert done <= passage.start < passage.end <= len(text)
        done = passage.end
        at = passage.start
        for word in passage.written_words():
            assert at <= word.start < word.end <= passage.end
            assert passage.spoken[word.spoken_start : word.spoken_end].strip()
            at = word.start


@given(mixed_text)
def test_words_read_again_are_the_same(text):
    for passage in read(text):
        assert normalize(MappedText(passage.spoken)).string == passage.spoken


def test_a_writer_who_pauses_is_heard_as_far_as_the_clause_goes():
    reader = Reader()
    assert reader.push("When it rains, 5 ca") == []
    assert [passage.spoken for passage in reader.take_clause()] == ["When it rains,"]
    assert reader.characters == len("5 ca")
    assert [passage.spoken for passage in reader.flush()] == ["five ca"]


@pytest.mark.parametrize(
    ("begun", "rest", "words"),
    [
        ("It costs $3.", "50.", ["It costs three dollars and fifty cents."]),
        ("See example.", "com now.", ["See example dot com now."]),
        ("**J.K.", "** Rowling", ["J.K. Rowling"]),
        ("It is 98.", "6.", ["It is ninety-eight point six."]),
        ("a [li", "nk](x).", ["a link."]),
    ],
)
def test_a_pause_cuts_no_token(begun, rest, words):
    reader = Reader()
    assert reader.push(begun) + reader.take_clause() == []
    assert [p.spoken for p in reader.push(rest) + reader.flush()] == words


def test_white_space_closes_a_sentence_for_who_pauses():
    reader = Reader()
    assert reader.push("It is so.") + reader.take_clause() == []
    assert reader.push("\n") == []
    assert [passage.spoken for passage in reader.take_clause()] == ["It is so."]
    reader.push("And so.")
    assert [passage.spoken for passage in reader.take_clause(is_patient=True)] == ["And so."]


def test_a_dictionary_says_how_words_are_said():
    lexicon = Lexicon({"NVIDIA": "en vidia", "$AAPL": "Apple", "tomato": "/təˈmɑːtəʊ/"})
    (passage,) = read("NVIDIA and $AAPL: 5 Tomatoes, 1 tomato.", ReadingOptions(lexicon=lexicon))
    assert passage.spoken == "en vidia and Apple: five Tomatoes, one tomato."
    (phonemes,) = passage.phonemes
    assert passage.spoken[phonemes.start : phonemes.end] == "tomato"
    assert phonemes.ipa == "təˈmɑːtəʊ"


def test_wrong_ssml_is_refused_from_then_on():
    reader = Reader(ReadingOptions(ssml=True))
    reader.push("<p>Fine.</p>")
    with pytest.raises(InvalidRequest, match="there is no <b>"):
        reader.push("<b>bold</b>")
    with pytest.raises(InvalidRequest):
        reader.flush()


def test_a_voice_changes_where_what_was_before_it_is_refused():
    bob = Voice("bob", "Bob", "male", "test")
    options = ReadingOptions(lexicon=Lexicon({"w": "la " * 60}))
    reader = Reader(options, Cast(lambda _: bob, lambda _: options))
    assert reader.push("w " * 40) == []
    with pytest.raises(InvalidRequest, match="the lexicon makes"):
        reader.change_voice(bob)
    (passage,) = [*reader.push("Then."), *reader.flush()]
    assert (passage.text, passage.voice) == ("Then.", bob)


def test_what_is_left_of_a_text_is_not_said_by_another_voice():
    bob, options = Voice("bob", "Bob", "male", "test"), ReadingOptions(ssml=True)
    reader = Reader(options, Cast(lambda _: bob, lambda _: options))
    assert reader.push("<p>Hello there. ") == []
    with pytest.raises(InvalidRequest, match="<p> is not closed"):
        reader.change_voice(bob)
    assert reader.take_clause(is_patient=True) == []
    assert reader.characters == 0
