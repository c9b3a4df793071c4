"""The text of a PDF → a book, by pypdf. What is scanned has none."""

from __future__ import annotations

import contextlib
import logging
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
    """Raises `InvalidRequest`, also where pypdf is not installed."""
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        raise InvalidRequest(
            f"a PDF is read with pypdf, which is missing: {INSTALL}", code="books_not_installed"
        ) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # each small fault of a file is a line
    left_out = LeftOutCounter()
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise InvalidRequest("the PDF needs a password", code="protected_book")
        if len(reader.pages) > MAX_PAGES:
            raise too_large("the PDF", MAX_PAGES, "pages")
        pages = list(_pages(reader))
        facts: Any = reader.metadata or {}
        title, author = (shorten(str(facts.get(name) or "")) for name in ("/Title", "/Author"))
        outline = list(_outline(reader, reader.outline, 1))
    except (InvalidRequest, MemoryError):
        raise
    except (PyPdfError, ImportError) as error:  # an ImportError: of a cipher
        raise damaged(_KIND, str(error)[:200]) from None
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        raise damaged(_KIND, f"it is damaged ({type(error).__name__})") from None
    if sum(map(len, pages)) < _FEW_CHARACTERS * len(pages):
        raise no_text("its pages are pictures; have their text recognized (OCR) first")
    if title.lower().endswith((".doc", ".docx", ".indd", ".tex", ".pdf")) or title == "untitled":
        title = ""
    return _book(pages, outline, title, author, left_out)


def _pages(reader: Any) -> Iterator[str]:
    characters = 0
    for page in reader.pages:
        text = page.extract_text().replace("\r", "\n")
        characters += len(text)
        if characters > MAX_CHARACTERS:
            raise too_large("the PDF", MAX_CHARACTERS, "characters")
        yield text


def _outline(reader: Any, entries: Any, depth: int) -> Iterator[tuple[int, str]]:
    """Its bookmarks: a page, from 0, and a title."""
    for entry in entries:
        if isinstance(entry, list):
            if depth < _DEEPEST_CONTENTS:
                yield from _outline(reader, entry, depth + 1)
            continue
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            page = reader.get_destination_page_number(entry)
            if page is not None and page >= 0:
                yield page, shorten(str(entry.title))


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
    bounds = sorted({0, *starts})
    blocks, places = [], list[tuple[int, str]]()
    for page, end in zip(bounds, [*bounds[1:], len(pages)], strict=True):
        written = _paragraphs(join_pages(pages[page:end]))
        found = leave_out_notes(mark_chapter_lines(written), left_out)
        if page in starts:
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
