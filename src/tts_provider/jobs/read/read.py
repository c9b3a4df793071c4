"""A file → a book, by what its name or its beginning says it is. Within this process: files of
strangers go to `read_process`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath
from typing import BinaryIO, Literal, get_args

from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import Book
from tts_provider.jobs.read.encoding import decode_text
from tts_provider.jobs.read.formats.chapters import shorten
from tts_provider.jobs.read.limits import MAX_CHARACTERS, MAX_FILE_BYTES, no_text, too_large

BookFormat = Literal["epub", "docx", "pdf", "html", "md", "txt", "srt", "vtt"]
BOOK_FORMATS: tuple[BookFormat, ...] = get_args(BookFormat)

_NAMES: dict[str, BookFormat] = {
    **{f".{name}": name for name in BOOK_FORMATS},
    **dict.fromkeys((".htm", ".xhtml"), "html"),
    **dict.fromkeys((".markdown", ".mdown"), "md"),
    ".text": "txt",
}
_MARKDOWN_HEADING = re.compile(r"^#{1,3} \S", re.MULTILINE)
_HEAD_BYTES = 2048
_MOST_BYTES = 4 * MAX_CHARACTERS  # of a text; a character in UTF-8 has four at most


def format_of(name: str) -> BookFormat | None:
    """By a file's name; None where it says nothing."""
    return _NAMES.get(PurePath(name.lower()).suffix)


def read_book(
    file: BinaryIO, book_format: BookFormat | None = None, name: str = "the file"
) -> Book:
    """`file` can be sought in. Without a format, what it begins with says what it is. A book that
    has no title is called as the file is.

    Raises `InvalidRequest` with one sentence and the code `invalid_book`, `empty_book`,
    `book_too_large`, `protected_book`, `unsupported_book` or `books_not_installed`.
    """
    book = _read(file, book_format, name)
    if not book.chapters:
        raise no_text("nothing in it is meant to be read aloud")
    title = book.title or shorten(PurePath(name).stem)
    chapters = (replace(one, title=one.title or title) for one in book.chapters)
    return replace(book, title=title, chapters=tuple(chapters))


def _read(file: BinaryIO, book_format: BookFormat | None, name: str) -> Book:
    size_bytes = file.seek(0, 2)
    file.seek(0)
    if size_bytes > MAX_FILE_BYTES:
        raise too_large("the file", MAX_FILE_BYTES, "bytes")
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head.strip():
        raise no_text("it is empty")
    kind = _told_by(head, book_format)
    if kind == "epub":
        from tts_provider.jobs.read.formats.epub import read_epub

        return read_epub(file)
    if kind == "docx":
        from tts_provider.jobs.read.formats.docx import read_docx

        return read_docx(file)
    if kind == "pdf":
        from tts_provider.jobs.read.formats.pdf import read_pdf

        return read_pdf(file)
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise too_large("the text", _MOST_BYTES, "bytes")
    text, _ = decode_text(data, name)
    return _read_text(text, kind)


def _told_by(head: bytes, asked: BookFormat | None) -> BookFormat | None:
    """What it is; the beginning is believed where a name says otherwise and cannot be right."""
    if head.startswith(b"PK"):
        if asked in ("epub", "docx"):
            return asked
        if b"application/epub+zip" in head:
            return "epub"
        if b"word/" in head or b"[Content_Types].xml" in head:
            return "docx"
        raise _unsupported("a ZIP archive that is neither EPUB nor DOCX")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if asked in ("epub", "docx", "pdf"):
        raise InvalidRequest(
            f"the file is no {asked.upper()}, whatever its name", code="invalid_book"
        )
    for beginning, what in _OTHERS.items():
        if head.startswith(beginning):
            raise _unsupported(what)
    return asked


_OTHERS = {
    b"\xd0\xcf\x11\xe0": "an old Word document (.doc); save it as .docx",
    b"{\\rtf": "RTF; save it as .docx",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a recording",
    b"ID3": "a recording",
    b"OggS": "a recording",
    b"fLaC": "a recording",
    b"AT&TFORM": "DjVu",
    b"\x1f\x8b": "compressed with gzip",
}


def _unsupported(what: str) -> InvalidRequest:
    known = ", ".join(f".{name}" for name in BOOK_FORMATS)
    return InvalidRequest(f"the file is {what}; books are {known}", code="unsupported_book")


def _read_text(text: str, kind: BookFormat | None) -> Book:
    from tts_provider.jobs.read.formats import text as texts
    from tts_provider.speech.structure.subtitles import subtitle_format

    if kind in ("srt", "vtt") or (kind is None and subtitle_format(text) is not None):
        return texts.read_captions(text)
    beginning = text[:_HEAD_BYTES].lstrip("\ufeff \t\r\n").lower()
    if kind == "html" or (
        kind is None and beginning.startswith(("<!doctype html", "<html", "<?xml"))
    ):
        return texts.read_html(text)
    if kind == "md" or (kind is None and len(_MARKDOWN_HEADING.findall(text)) > 1):
        return texts.read_markdown(text)
    return texts.read_plain(text)
