"""HTML and XHTML → blocks, with what in them can be referred to, and without what is no speech."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tts_provider.jobs.book import LeftOutCounter
from tts_provider.jobs.read.formats.chapters import FoundBlock
from tts_provider.jobs.read.limits import MAX_BLOCKS, MAX_CHARACTERS, too_large

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BREAKS = frozenset(
    """
    p div li ul ol dl dt dd table thead tbody tfoot tr caption blockquote section article header
    footer main aside body html figure figcaption details summary address pre fieldset form center
    """.split()  # noqa: SIM905
)
_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905
)
# Elements whose content nobody says; None is not told to anyone.
_SILENT: dict[str, str | None] = {
    **dict.fromkeys(("script", "style", "template", "noscript"), None),
    **dict.fromkeys(("rt", "rp"), None),
    **dict.fromkeys(("audio", "video", "object", "iframe", "canvas", "svg"), "pictures"),
    **dict.fromkeys(("select", "button", "textarea", "datalist"), "controls"),
    "nav": "navigation",
}
# EPUB's structural semantics and the roles of DPUB-ARIA: https://www.w3.org/TR/epub-ssv-11/
_SILENT_TYPES = {
    **dict.fromkeys(("noteref", "doc-noteref", "backlink", "doc-backlink"), "footnote marks"),
    **dict.fromkeys(("footnote", "endnote", "rearnote", "footnotes"), "notes"),
    **dict.fromkeys(("endnotes", "rearnotes", "doc-footnote", "doc-endnotes"), "notes"),
    **dict.fromkeys(("doc-endnote",), "notes"),
    **dict.fromkeys(("pagebreak", "doc-pagebreak"), "page numbers"),
    **dict.fromkeys(("toc", "landmarks", "page-list", "doc-toc", "loi", "lot"), "navigation"),
}
# What books without those call it.
_SILENT_CLASSES = {
    **dict.fromkeys(("pagenum", "pageno", "page-number", "pagenumber", "pgnum"), "page numbers"),
    **dict.fromkeys(("pagebreak", "page-break"), "page numbers"),
    **dict.fromkeys(("noteref", "fnref", "footnote-ref", "fnanchor"), "footnote marks"),
    **dict.fromkeys(("footnote", "footnotes", "endnote", "endnotes"), "notes"),
    # What Project Gutenberg puts around each of its books.
    **dict.fromkeys(("pg-boilerplate", "pgheader", "pg-header", "pg-footer"), "licenses"),
}
_NOTE_MARK = re.compile(r"\s*[\[(]?(?:[0-9]{1,3}|[ivx]{1,5}|[*†‡§¶]{1,3}|[a-z])[\])]?\s*")
# They stand for a line's end and a table's cell until white space is made one.
_LINE, _CELL = "\x00", "\x01"


class HtmlBlocks(HTMLParser):
    """Give it a document with `feed`, then `close`; `blocks` has what was in it."""

    def __init__(self, left_out: LeftOutCounter, *, is_page: bool = False) -> None:
        """In a page of the web, a `footer` and an `aside` are beside the text."""
        super().__init__(convert_charrefs=True)
        self.blocks = list[FoundBlock]()
        self.title = self.author = self.language = ""
        self.types = frozenset[str]()
        """Of the body or what is right in it: what the whole document is."""
        self._left_out = left_out
        self._is_page = is_page
        self._text = list[str]()
        self._anchors = list[str]()
        self._level = 0
        self._silent: tuple[str, str | None, int] | None = None  # its tag, what it is, how deep
        self._unsaid = list[str]()
        self._links = list[tuple[str, int]]()  # what may be a mark: its tag, and where it begins
        self._in_title = False
        self._in_pre = 0
        self._lists = list[int]()  # of ordered ones, the number of the last item; else -1
        self._item = ""
        self._characters = 0

    # --- What HTMLParser calls -------------------------------------------------------------------

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if self._silent is not None:
            name, what, depth = self._silent
            if tag == name and tag not in _VOID:
                self._silent = (name, what, depth + 1)
            return
        self._anchors += [attributes[name] for name in ("id", "name") if attributes.get(name)]
        types = frozenset(
            f"{attributes.get('epub:type', '')} {attributes.get('role', '')}".lower().split()
        )
        if tag in ("html", "body", "section", "article", "div") and not self.blocks:
            self.types |= types
        if tag == "html":
            self.language = attributes.get("lang") or attributes.get("xml:lang", "")
        elif tag == "meta" and attributes.get("name", "").lower() in ("author", "dc.creator"):
            self.author = self.author or attributes.get("content", "")
        elif tag == "title":
            self._in_title = True
        silent, what = self._silence(tag, types, attributes)
        if silent:
            if tag in _VOID:
                if what is not None:
                    self._left_out.add(what)
                return
            if tag in _BREAKS:
                self._end_block()
            self._silent = (tag, what, 1)
            return
        self._begin(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if self._silent is not None:
            name, what, depth = self._silent
            if tag == name and depth > 1:
                self._silent = (name, what, depth - 1)
            elif tag == name:
                self._silent = None
                if what is not None:
                    self._left_out.add(what, "".join(self._unsaid))
                self._unsaid.clear()
            return
        if tag == "title":
            self._in_title = False
        elif self._links and self._links[-1][0] == tag:
            self._end_link()
        elif tag in _HEADINGS:
            self._end_block()
        elif tag in _BREAKS:
            self._end_block()
            if tag == "pre":
                self._in_pre = max(0, self._in_pre - 1)
            elif tag in ("ol", "ul") and self._lists:
                self._lists.pop()

    def handle_data(self, data: str) -> None:
        if self._silent is not None:
            self._unsaid.append(data)
        elif self._in_title:
            self.title += data
        else:
            self._characters += len(data)
            if self._characters > MAX_CHARACTERS:
                raise too_large("the text", MAX_CHARACTERS, "characters")
            self._text.append(data.replace("\n", _LINE) if self._in_pre else data)

    def close(self) -> None:
        super().close()
        self._end_block()
        self.title = " ".join(self.title.split())

    # --- What it is ------------------------------------------------------------------------------

    def _silence(
        self, tag: str, types: frozenset[str], attributes: dict[str, str]
    ) -> tuple[bool, str | None]:
        """Whether nothing in it is said, and what it is."""
        for name in types:
            if name in _SILENT_TYPES and tag not in ("html", "body"):
                return True, _SILENT_TYPES[name]
        if tag in _SILENT:
            return True, _SILENT[tag]
        if "hidden" in attributes:
            return True, "hidden text"
        if tag not in ("html", "body"):
            for name in attributes.get("class", "").lower().split():
                if name in _SILENT_CLASSES:
                    return True, _SILENT_CLASSES[name]
        if tag == "img":
            return True, "pictures"
        if self._is_page and tag in ("footer", "aside"):
            return True, "navigation"
        return False, None

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _HEADINGS:
            self._end_block()
            self._level = _HEADINGS[tag]
        elif tag == "hr":
            self._end_block()
            self.blocks.append(FoundBlock("break"))
        elif tag == "br":
            self._text.append(_LINE)
        elif tag in ("td", "th"):
            self._text.append(_CELL)
        elif tag == "sup" or (tag == "a" and "#" in attributes.get("href", "")):
            self._links.append((tag, len(self._text)))
        elif tag in _BREAKS:
            self._end_block()
            if tag == "pre":
                self._in_pre += 1
            elif tag in ("ol", "ul"):
                self._lists.append(0 if tag == "ol" else -1)
            elif tag == "li" and self._lists and self._lists[-1] >= 0:
                self._lists[-1] += 1
                self._item = f"{self._lists[-1]}. "

    def _end_link(self) -> None:
        """A link within the book, or what is raised, whose text is a number is a note's mark."""
        tag, start = self._links.pop()
        text = "".join(self._text[start:])
        before = "".join(self._text[max(0, start - 1) : start])
        is_mark = _NOTE_MARK.fullmatch(text) is not None and bool(before.strip())
        # E = mc² and 1ˢᵗ are words: of what is raised and no link, only what cannot be.
        if is_mark and (tag == "a" or not re.search(r"[0-9a-zA-Z]", text)):
            del self._text[start:]
            self._left_out.add("footnote marks")

    def _end_block(self) -> None:
        level, self._level = self._level, 0
        raw, self._text = "".join(self._text), []
        self._links.clear()
        text = "\n".join(map(_one_line, raw.split(_LINE))).strip("\n")
        if not text:
            self._level = level  # <h2><div>Title</div></h2>
            return
        item, self._item = self._item, ""
        anchors, self._anchors = tuple(self._anchors), []
        if len(self.blocks) >= MAX_BLOCKS:
            raise too_large("the text", MAX_BLOCKS, "paragraphs")
        if level:
            one_line = ". ".join(line.rstrip(".") for line in text.split("\n") if line)
            self.blocks.append(FoundBlock("heading", one_line, level, anchors))
        else:
            self.blocks.append(FoundBlock("paragraph", item + text, 0, anchors))


def _one_line(text: str) -> str:
    cells = (" ".join(cell.split()) for cell in text.split(_CELL))
    return ", ".join(cell for cell in cells if cell)
