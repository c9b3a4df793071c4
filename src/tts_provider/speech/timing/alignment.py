"""Maps spoken words to written ones: `$5` is one written word, spoken as two."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tts_provider.speech.mapped_text import Run, from_runs

_AROUND = ".,;:!?\"'()[]{}—–…“”‘’«»*_`、。，！？；：「」『』（）《》"
# In scripts without spaces (Han and kana), each character counts as a word.
_ALONE = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# Signs that lengthen or change the character before them.
_ITS = "ー々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
# Dashes and dots between two words end the first one.
_TOKEN = re.compile(
    rf"[—–…]*(?:[(「『（《]*[{_ALONE}][{_ITS}、。，！？；：」』）》.,!?;:)]*|[^\s—–…{_ALONE}]+)[—–…]*"
)


@dataclass(frozen=True)
class AlignedWord:
    """A spoken word: characters from `spoken_start` to before `spoken_end` of a passage's `spoken`.

    What was written for it, with the punctuation that it touches, is from `start` to before `end`
    of the whole text, which is from `text_start` to before `text_end` of the passage's own.
    """

    spoken_start: int
    spoken_end: int
    start: int
    end: int
    text_start: int
    text_end: int


def align(
    text: str, spoken: str, runs: Sequence[Run], spoken_runs: Sequence[Run]
) -> list[AlignedWord]:
    """The place of every spoken word, in order; `runs` tell where `text` was written, `spoken_runs`
    what of `text` the `spoken` ones stand for.

    Each place is that of the word before or lies behind it. Where a spoken word stands for several
    written ones (`1 234 567`), or their order is another (`$5 million`), these are one.
    """
    written = _written_words(text, from_runs(runs, len(text)))
    if not written:
        return []
    starts, ends = [word.text_start for word in written], [word.text_end for word in written]
    sources = from_runs(spoken_runs, len(spoken))
    groups = list[_Group]()
    for word in spoken_words(spoken):
        source = sources[slice(*word)]
        first = bisect_right(ends, min(start for start, _ in source))
        after = bisect_left(starts, max(end for _, end in source))
        if first >= after:  # written nowhere: it belongs to what is before
            first, after = max(after - 1, 0), max(after, 1)
        group = _Group([word], written[first], written[after - 1])
        while groups and group.first.start < groups[-1].last.end:
            group = groups.pop().joined(group)
        groups.append(group)
    return [
        AlignedWord(*word, first.start, last.end, first.text_start, last.text_end)
        for spoken, first, last in groups
        for word in spoken
    ]


def spoken_words(words: str) -> list[tuple[int, int]]:
    """From where to before where each word is, without the punctuation around it."""
    found = []
    for match in _TOKEN.finditer(words):
        if bare := match[0].strip(_AROUND):
            start = match.start() + match[0].index(bare)
            found.append((start, start + len(bare)))
    return found


class _Written(NamedTuple):
    """A written word with the punctuation that it touches; a mark that stands alone is one too."""

    start: int
    end: int
    text_start: int
    text_end: int


def _written_words(text: str, places: Sequence[tuple[int, int]]) -> list[_Written]:
    words = []
    for match in _TOKEN.finditer(text):
        # Inserted text, such as a comma after a list's number, was written nowhere.
        kept = [at for at in range(*match.span()) if places[at][0] < places[at][1]]
        if kept:
            end = max(places[at][1] for at in kept)
            words.append(_Written(places[kept[0]][0], end, kept[0], kept[-1] + 1))
    return words


class _Group(NamedTuple):
    """Spoken words, and the first and the last written one that they stand for together."""

    spoken: list[tuple[int, int]]
    first: _Written
    last: _Written

    def joined(self, other: _Group) -> _Group:
        """With those that are spoken behind it."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        return _Group(self.spoken + other.spoken, first, last)
