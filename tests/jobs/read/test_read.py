"""Files that people have → chapters, and what of them is no speech."""

from __future__ import annotations

import io

import pytest

import books
from rows import rows
from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import Book
from tts_provider.jobs.read.read import BookFormat, read_book


def read(data: bytes | str, kind: BookFormat | None = None, name: str = "lamps.txt") -> Book:
    data = data.encode() if isinstance(data, str) else data
    return read_book(io.BytesIO(data), kind, name)


def outline(book: Book) -> dict[str, list[str]]:
    """Headings begin with #, a change of scene is *."""
    marks = {"heading": "# ", "paragraph": "", "break": "*"}
    return {
        chapter.title: [marks[block.kind] + block.text for block in chapter.blocks]
        for chapter in book.chapters
    }


def left_out(book: Book) -> dict[str, int]:
    return {one.what: one.count for one in book.left_out}


LAMPS = {
    "The First Lamp": [
        "# Chapter 1. The First Lamp",
        "It was dark. She lit the lamp.",
        "It burned all night.",
    ],
    "The Second Lamp": [
        "# Chapter 2. The Second Lamp",
        "The oil was gone by morning.",
        "*",
        "Then there was light; e = mc2.",
    ],
}


def test_an_epub_has_the_chapters_of_its_contents():
    book = read(books.two_lamps(), "epub")
    assert (book.title, book.author, book.language) == ("The Two Lamps", "A. Writer", "en")
    assert outline(book) == LAMPS
    assert book.cover is not None
    assert (book.cover.media_type, book.cover.data) == ("image/png", books.png())
    assert left_out(book) == {
        "front and back matter": 4,  # cover, title page, contents, index
        "footnote marks": 2,
        "page numbers": 1,
        "pictures": 1,
        "notes": 1,
    }


def test_an_older_epub_has_parts_and_their_chapters():
    point = '<navPoint><navLabel><text>{}</text></navLabel><content src="{}"/>{}</navPoint>'
    ncx = point.format(
        *("Part One", "one.html"),
        point.format("The Dark", "one.html#dark", "") + point.format("The Light", "two.html", ""),
    )
    pages = {
        "one.html": books.page('<h1>Part One</h1><h2 id="dark">The Dark</h2><p>It was dark.</p>'),
        "two.html": books.page("<h2>The Light</h2><p>It was light.</p>"),
        "notes.html": books.page("<p>A note.</p>"),
    }
    book = read(books.epub(pages, ncx=ncx, not_linear=["notes.html"]))
    assert outline(book) == {
        "Part One: The Dark": ["# Part One", "# The Dark", "It was dark."],
        "The Light": ["# The Light", "It was light."],
    }
    assert left_out(book) == {"pages beside the text": 1}


def test_an_epub_without_contents_has_the_chapters_of_its_headings():
    pages = {
        "a.xhtml": books.page("<p>Chapter 1</p><p>It was dark.</p>"),
        "b.xhtml": books.page("<p>Chapter 2</p><p>It was light.</p>"),
    }
    assert list(outline(read(books.epub(pages)))) == ["Chapter 1", "Chapter 2"]


def test_docx():
    p = books.docx_paragraph
    note = "<w:p><w:r><w:t>All is well</w:t><w:footnoteReference/><w:t>.</w:t></w:r></w:p>"
    body = (
        p("Letters", "Title") + p("One 1", "TOC1") + p("One", "Heading1") + p("Dear Ann,") + note
        + p("Two", "Heading1") + p("Dear Bob,")
        + "<w:p><w:del><w:r><w:delText>never</w:delText></w:r></w:del></w:p>"
    )  # fmt: skip
    book = read(books.docx(body))
    assert (book.title, book.author) == ("Letters", "A. Writer")
    assert outline(book) == {
        "Letters: One": ["# Letters", "# One", "Dear Ann,", "All is well."],
        "Two": ["# Two", "Dear Bob,"],
    }
    assert left_out(book) == {"lines of contents": 1, "footnote marks": 1}


def lines(word: str) -> list[str]:
    return [f"The {word} {n} was lit when evening came and all the house was quiet" for n in "abc"]


PDF_PAGES = [
    ["The Two Lamps", "Chapter 1", *lines("lamp"), "It was dark, the win-", "dow open.", "1"],
    ["THE TWO LAMPS", *lines("fire"), "and it went", "2"],
    ["THE TWO LAMPS", "on over the page. Then it stopped.", "3"],
    ["THE TWO LAMPS", "Chapter 2", *lines("moon"), "4"],
]


@rows("marks", [(), [("The Dark", 0), ("The Moon", 3)]])
def test_pdf(marks):
    book = read(books.pdf(PDF_PAGES, marks))
    first, second = outline(book).values()
    assert list(outline(book)) == ([m[0] for m in marks] or ["Chapter 1", "Chapter 2"])
    assert first[0] == "# Chapter 1"
    assert "the window open." in first[1]
    assert "and it went on over the page. Then it stopped." in first[-1]
    assert second[0] == "# Chapter 2"
    assert "evening came and all the house was quiet The moon b" in second[1]
    assert left_out(book) == {"running heads": 4, "page numbers": 4}


GUTENBERG = """The Project Gutenberg eBook of Lamps

Title: Two Lamps

Author: A. Writer

*** START OF THE PROJECT GUTENBERG EBOOK LAMPS ***

Two Lamps

Contents

 CHAPTER I.     The Dark
 CHAPTER II.    The Light
 CHAPTER III.   The End

CHAPTER I.
The Dark

It was dark.[1] She lit
the lamp.

[1] As nights are.

* * *

Part of it was, to my mind, chapter two of her life.

CHAPTER II.
The Light

It was light.

CHAPTER III.

The End of It

Good.

*** END OF THE PROJECT GUTENBERG EBOOK LAMPS ***
The license.
"""


def test_plain_text():
    book = read(GUTENBERG)
    assert (book.title, book.author) == ("Two Lamps", "A. Writer")
    assert outline(book) == {
        "Two Lamps": ["Two Lamps"],
        "CHAPTER I. The Dark": [
            "# CHAPTER I. The Dark",
            "It was dark. She lit\nthe lamp.",
            "*",
            "Part of it was, to my mind, chapter two of her life.",
        ],
        "CHAPTER II. The Light": ["# CHAPTER II. The Light", "It was light."],
        "CHAPTER III": ["# CHAPTER III", "# The End of It", "Good."],
    }
    assert left_out(book) == {
        "licenses": 2,
        "tables of contents": 1,
        "footnote marks": 1,
        "notes": 1,
    }


@rows(
    "line",
    [
        *("Chapter 7", "CHAPTER VII.", "Chapter Twenty-One", "Part the Second", "Prologue"),
        *("Chapter 3: The Dark", "Chapter One The Dark", "Kapitel 4", "EPILOGUE.", "Act 2"),
    ],
)
def test_a_line_that_begins_a_chapter(line):
    book = read(f"Chapter 1\n\nIt was.\n\n{line}\n\nIt is.")
    assert list(outline(book)) == ["Chapter 1", line.rstrip(".")]


@rows(
    "line",
    [
        *("Part one of the plan was done.", "Part two ends.", "Chapter two of her life began."),
        *("Book me a room.", "Letter to a friend", "Section 2, then.", "Part of it", "Actor 1"),
    ],
)
def test_a_line_that_begins_none(line):
    book = read(f"Chapter 1\n\nIt was.\n\nChapter 2\n\n{line}\n\nIt is.")
    assert list(outline(book)) == ["Chapter 1", "Chapter 2"]


def test_lone_numbers_are_chapters_where_they_count_up():
    book = read("I.\n\nFirst.\n\nII.\n\n1984\n\nThen.\n\nIII\n\nI am.")
    assert outline(book) == {
        "I": ["# 1", "First."],
        "II": ["# 2", "1984", "Then."],
        "III": ["# 3", "I am."],
    }
    assert list(outline(read("I\n\nam.\n\nX\n\nY"))) == ["lamps"]


def test_markdown():
    text = "---\ntitle: Foo\nauthor: Bar\n---\n# Foo\n\nHi.\n\n# One\n\na *b*\n\n```\nx\n\ny\n```\n"
    book = read(text + "\nTwo\n===\n\n- c\n- d\n", "md")
    assert (book.title, book.author) == ("Foo", "Bar")
    assert outline(book) == {
        "Foo": ["# Foo", "Hi."],
        "One": ["# One", "a *b*"],
        "Two": ["# Two", "- c\n- d"],
    }
    assert left_out(book)["lines of code"] == 3


def test_a_page_of_the_web():
    book = read(
        "<!doctype html><html lang=en><head><title>Pg</title><style>p {}</style></head><body>"
        "<nav>menu</nav><h1>Pg</h1><p>Dear <b>you</b>,<h2>One</h2><p>a<br>b"
        "<h2>Two</h2><ol><li>x<li>y</ol><table><tr><td>a<td>b</table><footer>f</footer></body>"
    )
    assert (book.title, book.language) == ("Pg", "en")
    assert outline(book) == {
        "Pg": ["# Pg", "Dear you,"],
        "One": ["# One", "a\nb"],
        "Two": ["# Two", "1. x", "2. y", "a, b"],
    }


def test_captions():
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nHello there.\n\n00:03.000 --> 00:04.000\nGood\nday.\n"
    assert outline(read(vtt, name="talk.vtt")) == {"talk": ["Hello there.", "Good day."]}


def test_a_long_text_without_chapters_is_cut_between_paragraphs():
    book = read("\n\n".join(f"It was dark, {n}." for n in range(8000)))
    assert [chapter.title for chapter in book.chapters] == ["Part 1", "Part 2", "Part 3", "Part 4"]
    assert sum(len(chapter.blocks) for chapter in book.chapters) == 8000


def test_other_encodings():
    assert outline(read("Das Schloß, das große Haus".encode("cp1252"), "txt")) == {
        "lamps": ["Das Schloß, das große Haus"]
    }


@rows(
    ("data", "kind", "code", "sentence"),
    [
        (b"", None, "empty_book", "it is empty"),
        (b" \n* * *\n", "txt", "empty_book", "no words"),
        (b"PK\x03\x04rest", "epub", "invalid_book", "no ZIP archive"),
        (b"PK\x03\x04rest", None, "unsupported_book", "neither EPUB nor DOCX"),
        (b"%PDF-1.4\nrubbish", None, "invalid_book", "no PDF"),
        (b"hello", "pdf", "invalid_book", "is no PDF"),
        (b"hello", "epub", "invalid_book", "is no EPUB"),
        (b"\xd0\xcf\x11\xe0old", None, "unsupported_book", "save it as .docx"),
        (b"\x89PNG\r\n", None, "unsupported_book", "a picture"),
        (books.zipped({"mimetype": "application/epub+zip"}), None, "invalid_book", "container.xml"),
        (books.epub({}), None, "empty_book", "no text"),
        (books.pdf([[], []]), None, "empty_book", "OCR"),
        (books.docx(""), None, "empty_book", "no paragraphs"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(data, kind, code, sentence):
    with pytest.raises(InvalidRequest) as caught:
        read(data, kind)
    assert caught.value.code == code
    assert sentence in caught.value.message


def test_a_protected_epub_says_so():
    encryption = '<encryption><CipherReference URI="OEBPS/a.xhtml"/></encryption>'
    data = books.epub({"a.xhtml": "\x00\x01"}, extra={"META-INF/encryption.xml": encryption})
    with pytest.raises(InvalidRequest, match="protected"):
        read(data)
