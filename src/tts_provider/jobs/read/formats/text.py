"""Plain text, Markdown, a page in HTML and subtitles → a book."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tts_provider.jobs.book import Book, LeftOutCounter
from tts_provider.jobs.read.formats.chapters import (
    FoundBlock,
    cut_by_headings,
    leave_out_contents,
    leave_out_notes,
    mark_chapter_lines,
    shorten,
)
from tts_provider.jobs.read.formats.html_blocks import HtmlBlocks
from tts_provider.jobs.read.formats.pages import join_pages, strip_pages
from tts_provider.jobs.read.limits import MAX_BLOCKS, MAX_CHARACTERS, no_text, too_large
from tts_provider.speech.structure.subtitles import read_subtitles

_BLANK = re.compile(r"\n[ \t]*\n\s*")
_BREAK = re.compile(r"(?:[ \t]*[*·•⁂#~=_–—-]){1,40}[ \t]*")

# https://www.gutenberg.org/policy/license.html: its name stands in the first and the last line.
_GUTENBERG_START = re.compile(
    r"\A(?P<head>.{0,40000}?)^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]{0,300}\n",
    re.DOTALL | re.MULTILINE,
)
_GUTENBERG_END = re.compile(r"^\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG", re.MULTILINE)
_FACT = re.compile(r"^(?P<name>Title|Author|Language):[ \t]{1,20}(?P<value>[^\n]{1,300})$", re.M)
_LANGUAGES = {"english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it"}

_FENCE = re.compile(r"[ \t]{0,3}(`{3,40}|~{3,40})")
_ATX = re.compile(r"[ \t]{0,3}(?P<marks>#{1,6})[ \t]+(?P<text>.+?)[ \t]*#{0,6}[ \t]*")
_SETEXT = re.compile(r"[ \t]{0,3}(?:={2,200}|-{2,200})[ \t]*")
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?P<facts>.{0,20000}?)^(?:---|\.\.\.)[ \t]*\n", re.S | re.M
)
_YAML_FACT = re.compile(
    r"^(?P<name>title|author|lang|language):[ \t]*[\"']?(?P<value>[^\n\"']{1,300})", re.M
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def read_plain(text: str) -> Book:
    """Raises `InvalidRequest`."""
    text = _unix(text)
    left_out, facts = LeftOutCounter(), dict[str, str]()
    if start := _GUTENBERG_START.match(text):
        facts = {one["name"].lower(): one["value"].strip() for one in _FACT.finditer(start["head"])}
        left_out.add("licenses", start[0])
        text = text[start.end() :]
    if end := _GUTENBERG_END.search(text):
        left_out.add("licenses", text[end.start() :])
        text = text[: end.start()]
    if "\f" in text:
        text = join_pages(strip_pages(text.split("\f"), left_out))
    found = [_text_block(block) for block in _BLANK.split(text.strip("\n")) if block.strip()]
    blocks = mark_chapter_lines(leave_out_contents(_bounded(found), left_out))
    language = facts.get("language", "").lower()
    return _book(
        blocks,
        left_out,
        shorten(facts.get("title", "")),
        shorten(facts.get("author", "")),
        _LANGUAGES.get(language, ""),
    )


def read_markdown(text: str) -> Book:
    """Raises `InvalidRequest`."""
    text = _unix(text)
    left_out, facts = LeftOutCounter(), dict[str, str]()
    if front := _FRONT_MATTER.match(text):
        facts = {one["name"]: one["value"].strip() for one in _YAML_FACT.finditer(front["facts"])}
        left_out.add("front and back matter", front["facts"])
        text = text[front.end() :]
    text = _COMMENT.sub("", text)
    blocks = _bounded(list(_markdown_blocks(text, left_out)))
    headings = [block for block in blocks if block.kind == "heading"]
    title = facts.get("title", "")
    if not headings:
        blocks = mark_chapter_lines(blocks)
    elif not title and [block.level for block in headings].count(1) == 1:
        title = next(block.text for block in headings if block.level == 1)
    language = facts.get("lang") or facts.get("language", "")
    return _book(blocks, left_out, shorten(title), shorten(facts.get("author", "")), language)


def read_html(text: str) -> Book:
    """A page of the web, or a whole book in one. Raises `InvalidRequest`."""
    left_out = LeftOutCounter()
    reader = HtmlBlocks(left_out, is_page=True)
    reader.feed(text)
    reader.close()
    blocks = reader.blocks
    if not any(block.level for block in blocks):
        blocks = mark_chapter_lines(blocks)
    title, author = shorten(reader.title), shorten(reader.author)
    return _book(blocks, left_out, title, author, reader.language)


def read_captions(text: str) -> Book:
    """SubRip or WebVTT: what is spoken in it. Raises `InvalidRequest`."""
    spoken = read_subtitles(text)
    blocks = [FoundBlock("paragraph", line) for line in spoken.split("\n") if line.strip()]
    return _book(_bounded(blocks), LeftOutCounter(), "", "", "")


def _book(
    blocks: list[FoundBlock], left_out: LeftOutCounter, title: str, author: str, language: str
) -> Book:
    if not any(any(map(str.isalnum, block.text)) for block in blocks):
        raise no_text("there are no words in it")
    chapters = cut_by_headings(leave_out_notes(blocks, left_out), title, left_out)
    return Book(title, author, language, chapters, left_out.all())


def _unix(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise too_large("the text", MAX_CHARACTERS, "characters")
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def _bounded(blocks: list[FoundBlock]) -> list[FoundBlock]:
    if len(blocks) > MAX_BLOCKS:
        raise too_large("the text", MAX_BLOCKS, "paragraphs")
    return blocks


def _text_block(text: str) -> FoundBlock:
    if _BREAK.fullmatch(text):
        return FoundBlock("break")
    return FoundBlock("paragraph", "\n".join(line.strip() for line in text.split("\n")))


def _markdown_blocks(text: str, left_out: LeftOutCounter) -> Iterator[FoundBlock]:
    """Paragraphs stay Markdown, which `speech.reading` reads; code is left out there as well."""
    held, fence = list[str](), ""

    def paragraph() -> Iterator[FoundBlock]:
        written = "\n".join(held).strip("\n")
        held.clear()
        if _BREAK.fullmatch(written):
            yield FoundBlock("break")
        elif written.strip():
            yield FoundBlock("paragraph", written)

    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
            else:
                left_out.add("lines of code", line)
        elif mark:
            yield from paragraph()
            fence = mark[1]
        elif heading := _ATX.fullmatch(line):
            yield from paragraph()
            yield FoundBlock("heading", heading["text"], len(heading["marks"]))
        elif len(held) == 1 and _SETEXT.fullmatch(line) and not _BREAK.fullmatch(held[0]):
            level = 1 if line.strip().startswith("=") else 2
            yield FoundBlock("heading", held.pop().strip(), level)
        elif not line.strip():
            yield from paragraph()
        else:
            held.append(line)
    yield from paragraph()
