from __future__ import annotations

import gc
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.speech.mapped_text import MappedText, Part, from_runs, part

NUMBER = re.compile("([0-9]+)")
SIZE = re.compile(r"(?P<count>[0-9]+)(?P<scale> million)? ?(?P<unit>[a-z]+)")


def places(text: MappedText) -> list[tuple[int, int]]:
    return [text.span(at, at + 1) for at in range(len(text))]


def test_a_string_stands_for_all_that_matched_and_the_rest_for_itself():
    text = MappedText("a 12 b").sub(NUMBER, "twelve")
    assert text.string == "a twelve b"
    assert places(text) == [(0, 1), (1, 2), *[(2, 4)] * 6, (4, 5), (5, 6)]


def test_a_second_edit_goes_back_to_what_was_written_first():
    text = (
        MappedText("x ½ y").sub(re.compile("½"), "1/2").sub(NUMBER, lambda match: f"<{match[0]}>")
    )
    assert text.string == "x <1>/<2> y"
    assert {text.span(at, at + 1) for at in range(2, 9)} == {(2, 3)}
    both = MappedText("1 2").sub(NUMBER, "n").sub(re.compile("n n"), "two")
    assert places(both) == [(0, 3)] * 3


def test_parts_stand_each_for_its_own_and_strings_for_what_is_between():
    def size(match: re.Match[str]) -> tuple[str | Part, ...]:
        return "about ", part(match, "count", "five"), " whole ", part(match, "unit", "grams")

    text = MappedText("It is 5 -g").sub(re.compile(r"(?P<count>5) -(?P<unit>g)"), size)
    assert text.string == "It is about five whole grams"
    words = {word[0]: text.span(*word.span()) for word in re.finditer(r"\w+", text.string)}
    assert words["five"] == (6, 7)
    assert words["whole"] == (7, 9)
    assert words["grams"] == (9, 10)
    assert words["about"] == words["five"]  # nothing is written before


def test_parts_may_be_said_in_another_order():
    dollars = re.compile(r"(\$)([0-9]+)")
    text = MappedText("$5").sub(dollars, lambda m: (part(m, 2, "five"), " ", part(m, 1, "dollars")))
    assert text.string == "five dollars"
    assert (text.span(0, 4), text.span(5, 12), text.span(0, 12)) == ((1, 2), (0, 1), (0, 2))


def test_a_template_keeps_its_groups():
    text = MappedText("10 - 5").sub(re.compile("([0-9]+) - ([0-9]+)"), r"\1 minus \2")
    assert text.string == "10 minus 5"
    assert places(text) == [(0, 1), (1, 2), *[(2, 5)] * 7, (5, 6)]


def test_what_is_put_in_where_nothing_was_is_behind_what_is_before():
    text = MappedText("ab").splice([(1, 1, "-")])
    assert (text.string, places(text)) == ("a-b", [(0, 1), (1, 1), (1, 2)])
    assert MappedText("a").splice([(0, 0, "-")]).span(0, 1) == (0, 0)


def test_nothing_to_edit_is_the_same_text():
    text = MappedText("as it is")
    assert text.sub(NUMBER, "n") is text
    assert text.sub(re.compile("it"), lambda match: match[0]) is text
    assert text.replace("x", "y") is text
    assert text.on_one_line() is text
    assert text.strip("x", "y") is text
    assert text.splice([]) is text


def test_a_group_that_is_not_there_is_a_mistake():
    with pytest.raises(AssertionError):
        MappedText("5 g").sub(SIZE, lambda match: (part(match, "scale"),))


@given(
    st.text("ab1 \t\n.,\u2003"),
    st.sampled_from(["a", "1+", r"\s", "(a)(b?)", r"(?<=a)b", "", r"\b", "x*"]),
    st.sampled_from(["", "a", r"<\1>", " and "]),
)
def test_an_edit_is_that_of_re(string, pattern, replacement):
    found = re.compile(pattern)
    template = replacement if found.groups else replacement.replace(r"\1", "one")
    assert MappedText(string).sub(found, template).string == found.sub(template, string)


@given(st.text(" a\n\t\x1c\u2003."), st.text(" .a"), st.text(" .a"))
def test_white_space_and_ends_are_those_of_str(string, left, right):
    text = MappedText(string)
    assert text.on_one_line().string == " ".join(string.split())
    assert text.strip(left, right).string == string.rstrip(right).lstrip(left)
    assert text.replace("a", "aa").string == string.replace("a", "aa")
    kept = text.on_one_line()
    for at, character in enumerate(kept.string):
        start, end = kept.span(at, at + 1)
        assert (character == " ") is string[start:end].isspace()


@given(st.text("ab12 ."))
def test_runs_are_the_same_places_in_few_words(string):
    text = MappedText(string).sub(NUMBER, r"<\1>").sub(re.compile(r"\."), " dot ")
    assert from_runs(text.runs(), len(text)) == places(text)
    assert len(MappedText(string).runs()) == bool(string)


def test_many_edits_take_linear_time():
    """Eight times as many edits take some eight times the CPU time, under quadratic time 64."""

    def spent(count: int) -> float:
        text = MappedText("1 " * count)
        gc.disable()  # it looks at all that other tests keep, the more often the longer the text is
        begun = time.process_time()
        text = text.sub(NUMBER, r"\1")
        text = text.sub(NUMBER, lambda match: f"{match[0]}1")
        spent_s = time.process_time() - begun
        gc.enable()
        return spent_s

    gc.disable()  # a collection goes through all that other tests left
    try:
        assert min(spent(16_000) for _ in range(3)) < 24 * min(spent(2000) for _ in range(3))
    finally:
        gc.enable()


def test_a_text_is_as_written_until_it_is_edited():
    text = MappedText("1 2")
    assert text.is_as_written
    assert not text.sub(NUMBER, "one").is_as_written
    assert not text.slice(2, 3).is_as_written
    assert text.slice(0, 1).is_as_written
