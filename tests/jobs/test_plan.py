"""What is said in one go, and the silence behind it."""

from __future__ import annotations

import pytest

from jobs.tones import a_book
from tts_provider.errors import InvalidRequest
from tts_provider.jobs import plan as plans
from tts_provider.jobs.book import Block, Book, Chapter
from tts_provider.jobs.plan import choose_chapters, cut_preview, plan_book


def book_of(*texts: str) -> Book:
    return Book("T", "", "", (Chapter("C", tuple(Block("paragraph", text) for text in texts)),))


def test_every_character_is_said_once_and_parts_keep_to_chapters():
    book = a_book(chapters=3, paragraphs=60)
    plan = plan_book(book)
    assert [part.number for part in plan.parts] == list(range(len(plan.parts)))
    for number, chapter in enumerate(book.chapters):
        lines = [line for part in plan.parts_of(number) for line in part.lines]
        assert [line.text for line in lines] == [
            block.text for block in chapter.blocks if block.text
        ]
        assert [chapter.blocks[line.block].text for line in lines] == [line.text for line in lines]
    assert max(part.characters for part in plan.parts) < plans.PART_CHARACTERS + 100


def test_pauses_say_what_comes_next():
    (part,) = plan_book(a_book(chapters=1, paragraphs=2)).parts
    assert [line.pause_s for line in part.lines] == [
        plans.AFTER_HEADING_S,
        plans.AFTER_PARAGRAPH_S,
        plans.AFTER_SCENE_S,
        plans.AFTER_CHAPTER_S,
    ]


def test_a_long_paragraph_is_cut_between_sentences():
    text = " ".join(f"Sentence {n} is not very long." for n in range(400))
    lines = [line for part in plan_book(book_of(text)).parts for line in part.lines]
    assert "".join(line.text for line in lines) == text
    assert all(line.text.rstrip().endswith(".") for line in lines)
    assert max(len(line.text) for line in lines) <= plans.LONGEST_LINE
    assert [line.start for line in lines] == [text.index(line.text) for line in lines]
    assert {line.pause_s for line in lines[:-1]} == {plans.WITHIN_PARAGRAPH_S}


def test_the_digest_is_of_all_that_is_said():
    digests = {
        plan_book(book).text_digest()
        for book in (book_of("a b"), book_of("a", "b"), book_of("a c"), book_of("a b"))
    }
    assert len(digests) == 3


def test_chapters_are_chosen_by_number():
    book = a_book(chapters=4)
    assert [c.title for c in choose_chapters(book, {2, 4}).chapters] == ["Chapter 2", "Chapter 4"]
    with pytest.raises(InvalidRequest, match="no chapter 5; the book has 1 to 4"):
        choose_chapters(book, {4, 5})


def test_a_preview_ends_with_a_sentence():
    book = cut_preview(a_book(chapters=4), 10)
    assert 150 <= book.characters <= 200
    assert book.chapters[-1].blocks[-1].text.endswith(".")
    assert cut_preview(a_book(chapters=1), 10_000) == a_book(chapters=1)
