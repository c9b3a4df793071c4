"""EPUB 2 and 3 → a book, whose chapters are those of its contents.

https://www.w3.org/TR/epub-33/, and for the older `toc.ncx` https://idpf.org/epub/20/spec/OPF_2.0.1_draft.htm
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from xml.etree.ElementTree import Element

from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import Book, Chapter, Cover, LeftOutCounter
from tts_provider.jobs.read.encoding import decode_text
from tts_provider.jobs.read.formats.archive import Archive, resolve
from tts_provider.jobs.read.formats.chapters import (
    FoundBlock,
    cut_at,
    cut_by_headings,
    leave_out_notes,
    mark_chapter_lines,
    shorten,
)
from tts_provider.jobs.read.formats.html_blocks import HtmlBlocks
from tts_provider.jobs.read.formats.xml_tree import children, parse_xml, text_of
from tts_provider.jobs.read.limits import (
    MAX_BLOCKS,
    MAX_CHAPTERS,
    MAX_CHARACTERS,
    MAX_COVER_BYTES,
    damaged,
    no_text,
    too_large,
)

_KIND = "EPUB"
_XHTML = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_DEEPEST_CONTENTS = 2
"""Parts and their chapters; what is below them has no chapter of its own."""

# https://www.w3.org/TR/epub-ssv-11/ and OPF 2.0.1 section 2.6: what nobody reads aloud.
_FRONT_TYPES = frozenset(
    """
    cover titlepage halftitlepage copyright-page toc loi lot index colophon imprint other-credits
    bibliography doc-toc doc-index doc-cover doc-bibliography doc-colophon title-page landmarks
    seriespage errata endnotes footnotes rearnotes doc-endnotes notes
    """.split()  # noqa: SIM905
)
_FRONT_TITLES = re.compile(
    r"cover|(?:half[- ])?title[- ]?page|half[- ]title|copyright(?: page)?|(?:table of )?contents"
    r"|index|colophon|imprint|list of (?:illustrations|figures|tables|maps)|illustrations"
    r"|also by .*|(?:other )?books by .*|(?:end|foot)?notes|transcriber[’']s notes?"
    r"|(?:the )?(?:full )?project gutenberg.*licen[cs]e.*|bibliography|about the publisher",
    re.IGNORECASE,
)
_MANY_WORDS = 400
"""So much text before the first entry of the contents is no title page."""


@dataclass(frozen=True)
class _Document:
    name: str
    is_linear: bool


def read_epub(file: BinaryIO) -> Book:
    """Raises `InvalidRequest` where it is none, is protected, or has no text or too much."""
    archive = Archive(file, _KIND)
    package_name = _package_name(archive)
    package = parse_xml(archive.read(package_name), _KIND)
    _check_open(archive)
    metadata, manifest = package.find("metadata"), package.find("manifest")
    items = {item.get("id", ""): item for item in children(manifest, "item")}
    title = text_of(None if metadata is None else metadata.find("title"))
    left_out = LeftOutCounter()
    spine = package.find("spine")
    toc_name, entries = _contents(archive, package_name, spine, items)
    text = _Text({toc_name} | _guided_front(package, package_name), left_out)
    for document in _documents(spine, items, package_name):
        text.read(archive, document)
    if not any(block.text for block in text.blocks):
        raise no_text("its pages are pictures, or there are none")
    chapters = _cut(text, entries, shorten(title), left_out)
    return Book(
        shorten(title),
        shorten(" and ".join(text_of(one) for one in children(metadata, "creator"))),
        text_of(None if metadata is None else metadata.find("language")),
        chapters,
        left_out.all(),
        _cover(archive, package_name, metadata, items),
    )


def _package_name(archive: Archive) -> str:
    container = parse_xml(archive.read("META-INF/container.xml"), _KIND)
    for rootfile in container.iter("rootfile"):
        if name := rootfile.get("full-path"):
            return name
    raise damaged(_KIND, "its container.xml names no package")


def _check_open(archive: Archive) -> None:
    """Raises `InvalidRequest` where its text is encrypted; fonts may be."""
    if not archive.has("META-INF/encryption.xml"):
        return
    encryption = parse_xml(archive.read("META-INF/encryption.xml"), _KIND)
    for reference in encryption.iter("CipherReference"):
        if reference.get("URI", "").lower().endswith((".xhtml", ".html", ".htm", ".xml")):
            raise InvalidRequest(
                "the EPUB is protected (DRM), so its text cannot be read", code="protected_book"
            )


def _documents(
    spine: Element | None, items: Mapping[str, Element], package_name: str
) -> Sequence[_Document]:
    """In the order they are read."""
    found = []
    for reference in children(spine, "itemref"):
        item = items.get(reference.get("idref", ""))
        if item is not None and item.get("media-type", "") in _XHTML:
            name, _ = resolve(package_name, item.get("href", ""))
            found.append(_Document(name, reference.get("linear") != "no"))
    return found


def _guided_front(package: Element, package_name: str) -> set[str]:
    """Documents that EPUB 2's guide calls a cover, a title page or the like."""
    return {
        resolve(package_name, reference.get("href", ""))[0]
        for reference in children(package.find("guide"), "reference")
        if reference.get("type", "").lower() in _FRONT_TYPES
    }


class _Text:
    """All documents' blocks in order, and where among them is what can be referred to."""

    def __init__(self, front: set[str], left_out: LeftOutCounter) -> None:
        """`front` names documents that are no speech."""
        self.blocks = list[FoundBlock]()
        self.places = dict[tuple[str, str], int]()
        """A document's name and an anchor in it, or none → the block."""
        self._front, self._left_out = front, left_out
        self._characters = 0

    def read(self, archive: Archive, document: _Document) -> None:
        own = LeftOutCounter()
        reader = HtmlBlocks(own)
        text, _ = decode_text(archive.read(document.name), document.name)
        reader.feed(text)
        reader.close()
        written = " ".join(block.text for block in reader.blocks)
        if not document.is_linear:
            self._left_out.add("pages beside the text", written)
            return
        if document.name in self._front or reader.types & _FRONT_TYPES:
            self._left_out.add("front and back matter", written)
            return
        self._left_out.add_all(own)
        self.places.setdefault((document.name, ""), len(self.blocks))
        for block in leave_out_notes(reader.blocks, self._left_out):
            for anchor in block.anchors:
                self.places.setdefault((document.name, anchor), len(self.blocks))
            self.blocks.append(block)
        self._characters += len(written)
        if len(self.blocks) > MAX_BLOCKS:
            raise too_large("the book", MAX_BLOCKS, "paragraphs")
        if self._characters > MAX_CHARACTERS:
            raise too_large("the book", MAX_CHARACTERS, "characters")


@dataclass(frozen=True)
class _Entry:
    """Of the contents."""

    title: str
    name: str
    fragment: str


def _contents(
    archive: Archive, package_name: str, spine: Element | None, items: Mapping[str, Element]
) -> tuple[str, list[_Entry]]:
    """The name of the document that is the contents, empty where there is none, and its entries."""
    for item in items.values():
        if "nav" in item.get("properties", "").split():
            name, _ = resolve(package_name, item.get("href", ""))
            if archive.has(name) and (entries := _nav_entries(archive, name)):
                return name, entries
    ncx = items.get("" if spine is None else spine.get("toc", "")) or next(
        (i for i in items.values() if i.get("media-type") == "application/x-dtbncx+xml"), None
    )
    if ncx is None:
        return "", []
    name, _ = resolve(package_name, ncx.get("href", ""))
    if not archive.has(name):
        return "", []
    root = parse_xml(archive.read(name), _KIND)
    entries = list[_Entry]()
    _add_points(root.find("navMap"), name, 1, entries)
    return "", entries


def _add_points(parent: Element | None, base: str, depth: int, entries: list[_Entry]) -> None:
    for point in children(parent, "navPoint"):
        content, label = point.find("content"), point.find("navLabel")
        if content is not None and content.get("src"):
            _check_count(entries)
            title = shorten(text_of(label))
            entries.append(_Entry(title, *resolve(base, content.get("src", ""))))
        if depth < _DEEPEST_CONTENTS:
            _add_points(point, base, depth + 1, entries)


def _nav_entries(archive: Archive, name: str) -> list[_Entry]:
    """https://www.w3.org/TR/epub-33/#sec-nav"""
    root = parse_xml(_without_named_entities(archive.read(name)), _KIND)
    entries = list[_Entry]()
    for nav in root.iter("nav"):
        if "toc" in nav.get("type", "").split():
            _add_items(nav.find("ol"), name, 1, entries)
            break
    return entries


def _add_items(parent: Element | None, base: str, depth: int, entries: list[_Entry]) -> None:
    for item in children(parent, "li"):
        link = item.find("a")
        if link is not None and link.get("href"):
            _check_count(entries)
            entries.append(_Entry(shorten(text_of(link)), *resolve(base, link.get("href", ""))))
        if depth < _DEEPEST_CONTENTS:
            _add_items(item.find("ol"), base, depth + 1, entries)


def _check_count(entries: list[_Entry]) -> None:
    if len(entries) >= MAX_CHAPTERS:
        raise too_large("the book", MAX_CHAPTERS, "chapters")


_NAMED_ENTITY = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]{1,30};")


def _without_named_entities(data: bytes) -> bytes:
    """HTML's, such as `&nbsp;`, which XML does not have."""

    def as_number(match: re.Match[bytes]) -> bytes:
        text = html.unescape(match[0].decode("ascii"))
        return "".join(f"&#{ord(sign)};" for sign in text).encode("ascii")

    return _NAMED_ENTITY.sub(as_number, data)


def _cut(
    text: _Text, entries: Sequence[_Entry], title: str, left_out: LeftOutCounter
) -> tuple[Chapter, ...]:
    blocks = text.blocks
    starts = dict[int, str]()
    for entry in entries:
        at = text.places.get((entry.name, entry.fragment), text.places.get((entry.name, "")))
        if at is not None and at < len(blocks):
            starts.setdefault(at, entry.title)
    if not starts:
        return cut_by_headings(mark_chapter_lines(blocks), title, left_out)
    bounds = sorted(starts)
    kept, kept_starts = list[FoundBlock](), list[tuple[int, str]]()
    lead = blocks[: bounds[0]]
    words = sum(len(block.text.split()) for block in lead)
    if words > _MANY_WORDS:
        kept += lead
    elif lead:
        left_out.add("front and back matter", " ".join(block.text for block in lead))
    for at, end in zip(bounds, [*bounds[1:], len(blocks)], strict=True):
        found = blocks[at:end]
        if _FRONT_TITLES.fullmatch(starts[at].strip()):
            left_out.add("front and back matter", " ".join(block.text for block in found))
            continue
        kept_starts.append((len(kept), starts[at]))
        kept += found
    return cut_at(kept, kept_starts, title, left_out)


def _cover(
    archive: Archive, package_name: str, metadata: Element | None, items: Mapping[str, Element]
) -> Cover | None:
    """A picture in JPEG or PNG that is not too large."""
    named = next(
        (
            meta.get("content", "")
            for meta in children(metadata, "meta")
            if meta.get("name") == "cover"
        ),
        "",
    )
    for key, item in items.items():
        is_cover = "cover-image" in item.get("properties", "").split() or key == named
        name, _ = resolve(package_name, item.get("href", ""))
        if not is_cover or not archive.has(name):
            continue
        try:
            data = archive.read(name, MAX_COVER_BYTES)
        except InvalidRequest:  # damaged or too large: a book can do without
            return None
        if data.startswith(b"\xff\xd8\xff"):
            return Cover("image/jpeg", data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return Cover("image/png", data)
    return None
