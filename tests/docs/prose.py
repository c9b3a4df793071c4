"""Checks the prose of the Markdown pages for `make lint`, and prints each problem on a line.

* Outside tables and code a line has at most 100 characters.
* A relative link leads to a file, and its anchor to a heading in that file.
* Each word is in the product's own list of English words, which has American spellings
  (`tts_provider/speech/normalize/english/words.txt`), or in `words.txt` beside this file. Code and
  words with a capital letter are not checked.

Nothing of the package is imported, so the check takes less than a second.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LINE_CHARACTERS = 100

# Not wrapped yet.
_LONG_LINES = {"CHANGELOG.md"}
_FOLDERS = (".", "docs", "examples", "training")
_WORDS = Path(__file__).with_name("words.txt")
_ENGLISH = REPOSITORY / "src/tts_provider/speech/normalize/english/words.txt"

_FENCE = re.compile(r" *```")
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_TARGET = re.compile(r"(?<=\])\([^)]*\)|https?:\S+|<[^>]*>|\$\S+|&\w+;")
# A word in small letters by itself: not a part of `a.b`, `a_b`, `int8` or `/a`.
_WORD = re.compile(r"(?<![\w./@#:-])[a-z]{3,}(?:['’][a-z]+)?(?![\w/@:]|\.\w)(?!-\d)")
_PART = re.compile(r"['’]s?$|['’](?:d|ll|re|ve|t)$")


def pages() -> list[Path]:
    return sorted(page for folder in _FOLDERS for page in (REPOSITORY / folder).glob("*.md"))


def problems(page: Path, text: str) -> list[str]:
    """Of a page with this text: each is `LINE: what is wrong`."""
    found = []
    for number, line in _prose(text):
        if len(line) > LINE_CHARACTERS and not _is_one_line(line) and page.name not in _LONG_LINES:
            found.append(f"{number}: {len(line)} characters; wrap it at {LINE_CHARACTERS}")
        shown = _CODE.sub("`", line)
        found += [f"{number}: {wrong}" for wrong in _broken_links(page, shown)]
        found += [
            f"{number}: {word!r} is not in the dictionary; correct it, or add it to {_WORDS.name}"
            for word in _WORD.findall(_TARGET.sub(" ", shown))
            if not is_known(word)
        ]
    return found


def _is_one_line(line: str) -> bool:
    """A table's row, or a comment that the tests read."""
    return line.lstrip().startswith(("|", "<!--"))


def is_known(word: str) -> bool:
    word = word.replace("’", "'")
    stem = _PART.sub("", word)
    # Rules make the plurals that the list leaves out.
    return bool({word, stem, stem.removesuffix("s")} & _known())


@functools.cache
def _known() -> frozenset[str]:
    ours = [line for line in _WORDS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return frozenset(ours) | frozenset(_ENGLISH.read_text("utf-8").split())


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside fenced code, with their numbers."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def _broken_links(page: Path, line: str) -> Iterator[str]:
    for path, anchor in _LINK.findall(line):
        target = page.parent / path if path else page
        if not target.exists():
            yield f"the link's file {path} is not there"
        elif anchor and anchor not in _anchors(target):
            yield f"{path or page.name} has no heading #{anchor}"


@functools.cache
def _anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them."""
    headings = [
        line.lstrip("# ") for _, line in _prose(page.read_text("utf-8")) if line.startswith("#")
    ]
    return frozenset(re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings)


def main() -> int:
    wrong = [
        f"{page.relative_to(REPOSITORY).as_posix()}:{problem}"
        for page in pages()
        for problem in problems(page, page.read_text("utf-8"))
    ]
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
