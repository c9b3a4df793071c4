"""Paragraphs and headings → chapters, and what of a text is no speech."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tts_provider.jobs.book import Block, BlockKind, Chapter, LeftOutCounter
from tts_provider.jobs.read.limits import LONGEST_NAME, MAX_CHAPTERS, too_large

_COUNT = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|first|second|third|fourth"
    "|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|last"
)
_NUMBER = rf"(?:[0-9]{{1,4}}|[ivxlcdm]{{1,9}}|(?:the )?(?:{_COUNT})(?:[- ](?:{_COUNT}))?)"
_NUMBERED = (
    "chapter|part|book|volume|canto|act|scene|letter|section|stave|lesson|lecture|psalm|episode|"
    "kapitel|teil|buch|chapitre|partie|livre|capítulo|parte|libro|capitolo|hoofdstuk"
)
_NAMED = (
    "prologue|epilogue|preface|introduction|foreword|afterword|conclusion|interlude|postscript|"
    "prolog|epilog|vorwort|nachwort|einleitung|préface|épilogue|avant-propos|prólogo|epílogo"
)
# "Chapter 7", "CHAPTER VII. The Pool", "Part the Second", "Prologue"
_CHAPTER_LINE = re.compile(
    rf"(?:(?:{_NUMBERED})[ \t]+{_NUMBER}(?!\w)(?P<rest>.{{0,80}})"
    rf"|(?:{_NAMED})(?:[.:—–-][ \t]*.{{0,80}})?)",
    re.IGNORECASE,
)
_LONE_NUMBER = re.compile(r"(?P<roman>[IVXLC]{1,9})\.?|(?P<digits>[1-9][0-9]{0,2})\.?")
_CONTENTS = re.compile(
    r"(?:table of )?contents[.:]?|inhalt(?:sverzeichnis)?|table des matières|índice", re.IGNORECASE
)
_LONGEST_LINE = 100
_LONGEST_SUBTITLE = 70
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)]*\Z")

# `word.[12]`, not `[12] word`: marks of notes, which stand behind what they are about.
_NOTE_MARK = re.compile(r"(?<=[\w.,;:!?\"'”’)])\[(?:[0-9]{1,3}|[*†‡§]{1,3})\]")
_NOTE = re.compile(r"\[(?:[0-9]{1,3}|[*†‡§])\]\s|\[(?:Foot)?note\b", re.IGNORECASE)

_CHAPTER_CHARACTERS = 40_000
"""A text without chapters is cut into some of about that length, so that a listener finds back."""


@dataclass(frozen=True)
class FoundBlock:
    """A block as it was found in a file."""

    kind: BlockKind
    text: str = ""
    level: int = 0
    """Of a heading, 1 is the highest."""
    anchors: tuple[str, ...] = ()
    """What it, or something in it, is referred to by."""
    title: str = ""
    """What a player shows for it, where that is not what is said."""

    @property
    def shown(self) -> str:
        return shorten(self.title or self.text)


def shorten(name: str) -> str:
    """On one line, without what cannot be shown, and not longer than a name may be."""
    shown = "".join(sign if sign.isprintable() else " " for sign in name)
    return " ".join(shown.split())[:LONGEST_NAME]


def mark_chapter_lines(blocks: Iterable[FoundBlock]) -> list[FoundBlock]:
    """Paragraphs that look like "Chapter 7" or "VII." become headings; what looks like a table of
    contents stays."""
    marked = [_as_heading(block) for block in blocks]
    return _number_lone(marked)


def _as_heading(block: FoundBlock) -> FoundBlock:
    lines = block.text.strip().splitlines()
    if block.kind != "paragraph" or not 1 <= len(lines) <= 3 or len(block.text) > _LONGEST_LINE:
        return block
    first = lines[0].strip(" \t*_#")
    if not _is_chapter_line(first) or any(map(_is_chapter_line, lines[1:])):
        return block
    text = ". ".join(line.strip(" \t*_#.") for line in lines if line.strip(" \t*_#."))
    return replace(block, kind="heading", level=2, text=text)


def _is_chapter_line(line: str) -> bool:
    """ "Part one of the plan was done." is a sentence: a title has a mark or a capital there."""
    match = _CHAPTER_LINE.fullmatch(line.strip(" \t*_#"))
    if match is None:
        return False
    rest = (match["rest"] or "").lstrip()
    return not rest[:1].islower() and not rest.startswith((",", ";", "(", "'", "’"))


def _number_lone(blocks: list[FoundBlock]) -> list[FoundBlock]:
    """Lines that are a number alone, where they count up from 1."""
    before, found = 0, dict[int, int]()
    for at, block in enumerate(blocks):
        match = _LONE_NUMBER.fullmatch(block.text.strip()) if block.kind == "paragraph" else None
        if match is None:
            continue
        value = int(match["digits"]) if match["digits"] else _ROMAN.get(match["roman"])
        if value is not None and value in (1, before + 1):
            before = found[at] = value
    if len(found) < 2:
        return blocks
    return [
        replace(block, kind="heading", level=3, text=str(found[at]), title=block.text.strip(" ."))
        if at in found
        else block
        for at, block in enumerate(blocks)
    ]


def _to_roman(number: int) -> str:
    """Below 400."""
    tens, ones = divmod(number % 100, 10)
    digits = ["", "a", "aa", "aaa", "ab", "b", "ba", "baa", "baaa", "ac"]
    return (
        "C" * (number // 100)
        + digits[tens].translate(str.maketrans("abc", "XLC"))
        + digits[ones].translate(str.maketrans("abc", "IVX"))
    )


_ROMAN = {_to_roman(number): number for number in range(1, 400)}


def leave_out_contents(blocks: Iterable[FoundBlock], left_out: LeftOutCounter) -> list[FoundBlock]:
    """Without a table of contents: a block that has chapters' lines and nothing else, and the word
    above it."""
    kept = list[FoundBlock]()
    for block in blocks:
        lines = [line for line in block.text.splitlines() if line.strip()]
        if block.kind == "paragraph" and len(lines) > 2 and all(map(_is_chapter_line, lines)):
            left_out.add("tables of contents", block.text)
            if kept and _CONTENTS.fullmatch(kept[-1].text.strip(" *_#")):
                left_out.add("tables of contents", kept.pop().text, count=0)
        else:
            kept.append(block)
    return kept


def leave_out_notes(blocks: Iterable[FoundBlock], left_out: LeftOutCounter) -> list[FoundBlock]:
    """Without notes and what refers to them."""
    kept = list[FoundBlock]()
    for block in blocks:
        if block.kind == "paragraph" and _NOTE.match(block.text):
            left_out.add("notes", block.text)
            continue
        text, marks = _NOTE_MARK.subn("", block.text)
        if marks:
            left_out.add("footnote marks", count=marks)
            block = replace(block, text=text)
        kept.append(block)
    return kept


def cut_by_headings(
    blocks: Sequence[FoundBlock], title: str, left_out: LeftOutCounter
) -> tuple[Chapter, ...]:
    """Chapters begin at the headings of the highest level that there are two of, and above it."""
    levels = [block.level for block in blocks if block.kind == "heading"]
    often = [level for level in sorted(set(levels)) if levels.count(level) > 1]
    deepest = often[0] if often else 0
    starts = [
        at
        for at, block in enumerate(blocks)
        if block.kind == "heading" and 0 < block.level <= deepest
    ]
    return cut_at(blocks, [(at, blocks[at].shown) for at in starts], title, left_out)


def cut_at(
    blocks: Sequence[FoundBlock],
    starts: Sequence[tuple[int, str]],
    title: str,
    left_out: LeftOutCounter,
) -> tuple[Chapter, ...]:
    """Chapters begin at these blocks, and have these titles; what is before the first has `title`.
    One that has nothing but its heading opens the next one, or is a line of a table of contents."""
    bounds = [(0, title), *((at, name) for at, name in starts if at > 0)]
    if starts and starts[0][0] == 0:
        bounds[0] = starts[0]
    ends = [at for at, _ in bounds[1:]] + [len(blocks)]
    cuts = [(name, list(blocks[at:end])) for (at, name), end in zip(bounds, ends, strict=True)]
    chapters = list[Chapter]()
    opening, opening_title = list[FoundBlock](), ""
    later = [name.casefold() for name, _ in cuts]
    for number, (name, found) in enumerate(cuts):
        if not any(block.text.strip() for block in found):
            continue
        if all(block.kind != "paragraph" for block in found) and number + 1 < len(cuts):
            if name.casefold() in later[number + 1 :]:
                left_out.add("tables of contents", " ".join(block.text for block in found))
            else:  # "Part One", and "Chapter 1" behind it
                opening += found
                opening_title = opening_title or name
            continue
        shown = f"{opening_title}: {name}" if opening_title else name
        own = _join_subtitle([*opening, *found])
        chapters.append(Chapter(shorten(shown), _blocks(own)))
        opening, opening_title = [], ""
    if len(chapters) > MAX_CHAPTERS:
        raise too_large("the book", MAX_CHAPTERS, "chapters")
    if len(chapters) == 1 and chapters[0].characters > 2 * _CHAPTER_CHARACTERS:
        return tuple(_cut_long(chapters[0]))
    return tuple(chapters)


def _join_subtitle(found: list[FoundBlock]) -> list[FoundBlock]:
    """What stands under "Chapter 7" and is no sentence belongs to the heading."""
    if len(found) > 2 and found[0].kind == "heading" and found[1].kind == "paragraph":
        text = found[1].text.strip()
        is_short = len(text) <= _LONGEST_SUBTITLE and "\n" not in text
        if is_short and text[:1].isupper() and not _SENTENCE_END.search(text):
            found[1] = replace(found[1], kind="heading")
    return found


def _blocks(found: Iterable[FoundBlock]) -> tuple[Block, ...]:
    return tuple(Block(block.kind, block.text.strip()) for block in found)


def _cut_long(chapter: Chapter) -> Iterable[Chapter]:
    """Between paragraphs, into parts of about the same length."""
    count = -(-chapter.characters // _CHAPTER_CHARACTERS)
    most, number = chapter.characters / count, 1
    held, characters = list[Block](), 0
    for block in chapter.blocks:
        held.append(block)
        characters += len(block.text)
        if characters >= most * number and number < count:
            yield Chapter(f"Part {number}", tuple(held))
            held, number = [], number + 1
    if held:
        yield Chapter(f"Part {number}", tuple(held))
