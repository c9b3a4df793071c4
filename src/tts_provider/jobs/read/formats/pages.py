"""Pages as they are printed → running text: without their numbers and running heads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tts_provider.jobs.book import LeftOutCounter

_PAGE_NUMBER = re.compile(
    r"[-–—\[(|\s]*(?:page|p\.|seite)?\s*(?:[0-9]{1,4}|[ivxlc]{1,7})(?:\s*(?:/|of|von)\s*[0-9]{1,4})?"
    r"[-–—\])|.\s]*",
    re.IGNORECASE,
)
# "2.1 Getting started . . . . . . . . 5"
_CONTENTS_LINE = re.compile(r".{0,200}?(?:\.[ \t\u00a0]?){4,300}[ \t]{0,40}[0-9ivxlc]{0,5}\s*")
_DIGITS = re.compile(r"[0-9]+|\A[ivxlc]+\b|\b[ivxlc]+\Z")
_FEWEST_PAGES = 3
"""On so many a line at the edge must be the same, to be no text."""
_SHARE = 0.2  # of all pages; heads change with the chapter, and left from right
_EDGE = 2  # lines at the top and at the bottom
_LONGEST_HEAD = 100

_SENTENCE_END = re.compile(r"[.!?…:][\"'”’)\]]*\Z")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad]\Z")
_SHORT = 0.8  # of a full line: such a line may end a paragraph


def strip_pages(pages: Sequence[str], left_out: LeftOutCounter) -> list[str]:
    """The same pages without what stands at the edges of many, and without their numbers."""
    heads = _heads(pages)
    stripped = (_strip_edges(page.splitlines(), heads, left_out) for page in pages)
    return ["\n".join(_without_contents(lines, left_out)) for lines in stripped]


def join_pages(pages: Sequence[str]) -> str:
    """Stripped pages as one text, with a blank line where a paragraph does not go on."""
    out = ""
    for page in pages:
        text = page.strip("\n")
        if not text.strip():
            continue
        if not out or _SENTENCE_END.search(out.rstrip()) or not text.lstrip()[:1].islower():
            out += "\n\n" + text
        elif _HYPHEN.search(out.rstrip()):
            out = out.rstrip()[:-1] + text.lstrip()
        else:
            out = out.rstrip() + " " + text.lstrip()
    return out.strip("\n")


def reflow(text: str) -> str:
    """Lines of a page that says nothing of its paragraphs, put together: one ends where a line is
    short and ends a sentence, or is blank."""
    lines = [line.strip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    full = lengths[len(lengths) * 3 // 4] if lengths else 0
    out = ""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not line:
            out = out.rstrip() + "\n\n"
        elif _HYPHEN.search(line) and after[:1].islower():
            out += line[:-1]
        elif len(line) < _SHORT * full and (_SENTENCE_END.search(line) or _is_title(line, full)):
            out += line + "\n\n"
        else:
            out += line + " "
    return re.sub(r"\n{3,}", "\n\n", out).strip()


def _is_title(line: str, full: int) -> bool:
    """A line by itself that is no sentence: half as long as others, and begins as names do."""
    return len(line) < full / 2 and line[:1].isupper() and not line.endswith((",", ";", "-"))


def _heads(pages: Sequence[str]) -> frozenset[str]:
    """Lines at the edges that many pages have, whatever their numbers."""
    counts = Counter[str]()
    for page in pages:
        lines = [line for line in page.splitlines() if line.strip()]
        counts.update({_shape(line) for line in (*lines[:_EDGE], *lines[-_EDGE:])})
    most = max(_FEWEST_PAGES, round(_SHARE * len(pages)))
    return frozenset(shape for shape, count in counts.items() if shape and count >= most)


def _shape(line: str) -> str:
    line = " ".join(line.split())
    return _DIGITS.sub("#", line).casefold() if len(line) <= _LONGEST_HEAD else ""


def _without_contents(lines: Sequence[str], left_out: LeftOutCounter) -> list[str]:
    kept = list[str]()
    for line in lines:
        if _CONTENTS_LINE.fullmatch(line):
            left_out.add("lines of contents", line.replace(".", ""))
        else:
            kept.append(line)
    return kept


def _strip_edges(lines: list[str], heads: frozenset[str], left_out: LeftOutCounter) -> list[str]:
    lines = list(lines)
    for at in (0, -1):
        for _ in range(_EDGE):
            while lines and not lines[at].strip():
                lines.pop(at)
            if not lines:
                return lines
            edge = lines[at]
            if _PAGE_NUMBER.fullmatch(edge):
                left_out.add("page numbers", edge)
            elif _shape(edge) in heads:
                left_out.add("running heads", edge)
            else:
                break
            lines.pop(at)
    return lines
