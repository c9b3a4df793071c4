"""The text of a PDF → a book, by PDFium. What is scanned has none.

pypdf finds no spaces in what TeX has set: there they are only distances.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import Book, LeftOutCounter
from tts_provider.jobs.read.formats.chapters import (
    FoundBlock,
    cut_at,
    cut_by_headings,
    leave_out_contents,
    leave_out_notes,
    mark_chapter_lines,
    shorten,
)
from tts_provider.jobs.read.formats.pages import join_pages, reflow, strip_pages
from tts_provider.jobs.read.limits import (
    MAX_CHAPTERS,
    MAX_CHARACTERS,
    damaged,
    no_text,
    too_large,
)

INSTALL = "pip install 'tts-provider[books]'"
MAX_PAGES = 5000
_KIND = "PDF"
_DEEPEST_CONTENTS = 2
_FEW_CHARACTERS = 20  # a page; less is a scan with a stamp on it


def read_pdf(file: BinaryIO) -> Book:
    """Raises `InvalidRequest`, also where pypdfium2 is not installed."""
    try:
        import pypdfium2
    except ImportError:
        raise InvalidRequest(
            f"a PDF is read with pypdfium2, which is missing: {INSTALL}", code="books_not_installed"
        ) from None
    left_out = LeftOutCounter()
    try:
        document = pypdfium2.PdfDocument(file)
        if len(document) > MAX_PAGES:
            raise too_large("the PDF", MAX_PAGES, "pages")
        pages = list(_pages(document))
        facts = document.get_metadata_dict()
        title, author = (shorten(str(facts.get(name) or "")) for name in ("Title", "Author"))
        outline = list(_outline(document))
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise InvalidRequest("the PDF needs a password", code="protected_book") from None
        raise damaged(_KIND, "it is damaged") from None
    if sum(map(len, pages)) < _FEW_CHARACTERS * len(pages):
        raise no_text("its pages are pictures; have their text recognized (OCR) first")
    if title.lower().endswith((".doc", ".docx", ".indd", ".tex", ".pdf")) or title == "untitled":
        title = ""
    return _book(pages, outline, title, author, left_out)


def _pages(document: Any) -> Iterator[str]:
    characters = 0
    for page in document:
        text = str(page.get_textpage().get_text_bounded())
        page.close()
        characters += len(text)
        if characters > MAX_CHARACTERS:
            raise too_large("the PDF", MAX_CHARACTERS, "characters")
        # What PDFium gives for the hyphen of a word that a line cut.
        yield text.replace("\r\n", "\n").replace("\x02\n", "").replace("\x02", "")


def _outline(document: Any) -> Iterator[tuple[int, str]]:
    """Its bookmarks: a page, from 0, and a title."""
    for mark in document.get_toc(max_depth=_DEEPEST_CONTENTS):
        place = mark.get_dest()
        page = None if place is None else place.get_index()
        if page is not None and page >= 0:
            yield page, shorten(mark.get_title())


def _book(
    pages: list[str],
    outline: list[tuple[int, str]],
    title: str,
    author: str,
    left_out: LeftOutCounter,
) -> Book:
    if len(outline) > MAX_CHAPTERS:
        raise too_large("the PDF", MAX_CHAPTERS, "chapters")
    pages = strip_pages(pages, left_out)
    starts = dict[int, str]()
    for page, name in outline:
        starts.setdefault(page, name)
    if len(starts) < 2:
        blocks = leave_out_contents(_paragraphs(join_pages(pages)), left_out)
        blocks = leave_out_notes(mark_chapter_lines(blocks), left_out)
        chapters = cut_by_headings(blocks, title, left_out)
        return Book(title, author, "", chapters, left_out.all())
    bounds = sorted(starts)
    before = join_pages(pages[: bounds[0]])
    if before:
        left_out.add("front and back matter", before)
    blocks, places = [], list[tuple[int, str]]()
    for page, end in zip(bounds, [*bounds[1:], len(pages)], strict=True):
        written = _paragraphs(join_pages(pages[page:end]))
        found = leave_out_notes(mark_chapter_lines(written), left_out)
        places.append((len(blocks), starts[page]))
        if found and _is_heading(found[0].text, starts[page]):
            found[0] = FoundBlock("heading", found[0].text, 1)
        blocks += found
    return Book(title, author, "", cut_at(blocks, places, title, left_out), left_out.all())


def _paragraphs(text: str) -> Iterator[FoundBlock]:
    for part in re.split(r"\n[ \t]*\n", text):
        for block in reflow(part).split("\n\n"):
            if block.strip():
                yield FoundBlock("paragraph", block.strip())


def _is_heading(text: str, title: str) -> bool:
    return len(text) <= len(title) + 20 and title.casefold()[:20] in text.casefold()
