"""Word's DOCX → a book: ECMA-376, part 1, section 17 (WordprocessingML)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO
from xml.etree.ElementTree import Element

from tts_provider.jobs.book import Book, LeftOutCounter
from tts_provider.jobs.read.formats.archive import Archive
from tts_provider.jobs.read.formats.chapters import (
    FoundBlock,
    cut_by_headings,
    leave_out_notes,
    mark_chapter_lines,
    shorten,
)
from tts_provider.jobs.read.formats.xml_tree import children, parse_xml, text_of
from tts_provider.jobs.read.limits import MAX_BLOCKS, MAX_CHARACTERS, no_text, too_large

_KIND = "DOCX"
_HEADING = re.compile(r"(?:heading|überschrift|titre|título|titolo|kop)\s?([1-6])", re.IGNORECASE)
_CONTENTS = re.compile(r"(?:toc|verzeichnis|tdm)\s?[0-9]?(?: heading)?", re.IGNORECASE)
# Text that was deleted, fields' instructions, and what is there a second time for older programs.
_SILENT = frozenset(("del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr"))
_NOTES = ("footnoteReference", "endnoteReference")


def read_docx(file: BinaryIO) -> Book:
    """Raises `InvalidRequest`."""
    archive = Archive(file, _KIND)
    body = parse_xml(archive.read("word/document.xml"), _KIND).find("body")
    levels = _levels(archive)
    left_out, blocks, characters = LeftOutCounter(), list[FoundBlock](), 0
    title = ""
    for paragraph in _paragraphs(body):
        text = "".join(_text(paragraph, left_out)).strip()
        if not text:
            continue
        style = _style(paragraph)
        name, level = levels.get(style, (style, 0))
        level = _own_level(paragraph) or level
        characters += len(text)
        if characters > MAX_CHARACTERS:
            raise too_large("the document", MAX_CHARACTERS, "characters")
        if len(blocks) >= MAX_BLOCKS:
            raise too_large("the document", MAX_BLOCKS, "paragraphs")
        if _CONTENTS.fullmatch(name):
            left_out.add("lines of contents", text)
        elif name.lower() in ("title", "titel", "titre", "título", "titolo"):
            title = title or text
            blocks.append(FoundBlock("heading", text, 0))
        elif level:
            blocks.append(FoundBlock("heading", text, level))
        else:
            blocks.append(FoundBlock("paragraph", text))
    if not blocks:
        raise no_text("it has no paragraphs")
    core = _core(archive)
    title = shorten(core.get("title") or title)
    if not any(block.level for block in blocks):
        blocks = mark_chapter_lines(blocks)
    chapters = cut_by_headings(leave_out_notes(blocks, left_out), title, left_out)
    author, language = shorten(core.get("creator", "")), core.get("language", "")
    return Book(title, author, language, chapters, left_out.all())


def _paragraphs(element: Element | None) -> Iterator[Element]:
    """In order; a table's are among them."""
    for child in () if element is None else element:
        if child.tag == "p":
            yield child
        elif child.tag not in _SILENT:
            yield from _paragraphs(child)


def _text(element: Element, left_out: LeftOutCounter) -> Iterator[str]:
    for child in element:
        if child.tag in _SILENT:
            continue
        if child.tag == "t":
            yield child.text or ""
        elif child.tag in ("tab", "ptab"):
            yield " "
        elif child.tag in ("br", "cr"):
            yield "\n"
        elif child.tag == "noBreakHyphen":
            yield "-"
        elif child.tag in _NOTES:
            left_out.add("footnote marks")
        elif child.tag in ("drawing", "pict"):
            left_out.add("pictures")
        else:
            yield from _text(child, left_out)


def _style(paragraph: Element) -> str:
    style = paragraph.find("pPr/pStyle")
    return "" if style is None else style.get("val", "")


def _own_level(element: Element) -> int:
    """Of the outline, from 1; 0 where it is text."""
    outline = element.find("pPr/outlineLvl")
    value = "" if outline is None else outline.get("val", "")
    return int(value) + 1 if value in ("0", "1", "2", "3", "4", "5") else 0


def _levels(archive: Archive) -> Mapping[str, tuple[str, int]]:
    """A style's id → its name and its level in the outline."""
    if not archive.has("word/styles.xml"):
        return {}
    found = {}
    for style in children(parse_xml(archive.read("word/styles.xml"), _KIND), "style"):
        named = style.find("name")
        name = "" if named is None else named.get("val", "")
        heading = _HEADING.fullmatch(name)
        level = int(heading[1]) if heading else _own_level(style)
        found[style.get("styleId", "")] = (name, level)
    return found


def _core(archive: Archive) -> Mapping[str, str]:
    """Dublin Core's title, creator and language."""
    if not archive.has("docProps/core.xml"):
        return {}
    return {one.tag: text_of(one) for one in parse_xml(archive.read("docProps/core.xml"), _KIND)}
