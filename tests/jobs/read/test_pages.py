"""Printed pages → running text."""

from __future__ import annotations

from rows import rows
from tts_provider.jobs.book import LeftOutCounter
from tts_provider.jobs.read.formats.pages import join_pages, reflow, strip_pages

LETTERS = "abcdefghijkl"


def strip(*pages: str) -> tuple[list[str], dict[str, int]]:
    left_out = LeftOutCounter()
    return strip_pages(pages, left_out), {one.what: one.count for one in left_out.all()}


def test_heads_of_left_and_right_pages_go_and_text_stays():
    heads = ["A NOVEL", "Chapter 1", "A NOVEL", "Chapter 1", "A NOVEL", "Chapter 2"] * 2
    together = zip(heads, LETTERS, strict=True)
    pages = [f"{head}\nLine {letter}.\n{n}" for n, (head, letter) in enumerate(together)]
    stripped, left_out = strip(*pages)
    assert stripped == [f"Line {letter}." for letter in LETTERS]
    assert left_out == {"running heads": 12, "page numbers": 12}


def test_lines_of_contents_go():
    contents, text = "1 The Dark . . . . . . . 5\n2 The Light ............ xii", "It was... 5 knew."
    assert strip(f"Contents\n{contents}\n{text}") == (
        [f"Contents\n{text}"],
        {"lines of contents": 2},
    )


@rows(
    ("pages", "text"),
    [
        (["It was a long", "night."], "It was a long night."),
        (["It was a won-", "derful night."], "It was a wonderful night."),
        (["It was night.", "the end"], "It was night.\n\nthe end"),
        (["He said", "Anna came."], "He said\n\nAnna came."),
        (["", "  ", "a"], "a"),
    ],
)
def test_what_goes_over_a_page(pages, text):
    assert join_pages(pages) == text


def test_lines_become_paragraphs():
    full = "The lamp was lit when evening came and all the house was"
    text = f"{full}\n{full}\nquiet and still.\nTitle Here\n{full} won-\nderful.\n{full}"
    assert reflow(text) == (
        f"{full} {full} quiet and still.\n\nTitle Here\n\n{full} wonderful.\n\n{full}"
    )
