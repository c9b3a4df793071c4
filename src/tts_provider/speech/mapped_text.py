"""A text that can be edited and still knows what was written for each character."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple


class Run(NamedTuple):
    """Characters from `at` on, and where they were written: one by one from `start` on, or all of
    them, `is_whole`, from `start` to before `end`."""

    at: int
    start: int
    end: int
    is_whole: bool


class Part(NamedTuple):
    """Text that stands for the characters from `start` to before `end` of the text it is put in."""

    text: str
    start: int
    end: int


Replacement = str | tuple[str | Part, ...]
"""What takes the place of a stretch of text.

A string alone stands for the whole stretch. A tuple says which part stands for what; a string
between two parts stands for what is written between them, or, where that is only white space, for
the same as the part before it (the first string, as the part behind it).
"""

Edit = tuple[int, int, Replacement]
"""From where to before where, and what takes the place."""

_SPACE = re.compile(r"[^\S ]\s*| \s+")  # any but one space
_ITSELF = [(at, at + 1) for at in range(1024)]  # places of a text as written; most are no longer


class MappedText:
    """A text, and where each character of it was written.

    Nothing changes in place: an edit returns the text with the edit, or `self` where there is
    nothing to edit. Characters that an edit keeps keep their places; those of a `Replacement`
    have the place of all that they stand for.
    """

    __slots__ = ("_places", "string")

    def __init__(self, string: str, places: list[tuple[int, int]] | None = None) -> None:
        """`places[i]` is from where to before where character i was written; without them the text
        is as it was written."""
        self.string = string
        if places is None:
            size = len(string)
            places = _ITSELF[:size] if size <= len(_ITSELF) else [(i, i + 1) for i in range(size)]
        self._places = places

    def __len__(self) -> int:
        return len(self.string)

    def __contains__(self, piece: str) -> bool:
        return piece in self.string

    def __repr__(self) -> str:
        return f"MappedText({self.string!r})"

    @property
    def is_as_written(self) -> bool:
        """Whether each character stands for itself, in its place."""
        return all(place == (at, at + 1) for at, place in enumerate(self._places))

    def runs(self) -> tuple[Run, ...]:
        """Where all of it was written, in few words."""
        return to_runs(self._places)

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.search(self.string)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """What was written for the characters from `start` to before `end`.

        For no characters it is the place behind what was written for the one before.
        """
        places = self._places[start:end]
        if not places:
            place = self._places[start - 1][1] if start else 0
            return place, place
        if len(places) == 1:
            return places[0]
        return min(places)[0], max(place[1] for place in places)

    def sub(
        self,
        pattern: re.Pattern[str],
        replacement: str | Callable[[re.Match[str]], Replacement],
    ) -> MappedText:
        r"""As `pattern.sub(replacement, text)`, where the function may return parts.

        A template has `\1` to `\9` for groups, which keep their characters' places.
        """
        first = pattern.search(self.string)  # mostly there is none, and this is the quickest
        if first is None:
            return self
        replace = _expander(replacement) if isinstance(replacement, str) else replacement
        return self.splice(
            [
                (*match.span(), replace(match))
                for match in pattern.finditer(self.string, first.start())
            ]
        )

    def replace(self, old: str, new: str) -> MappedText:
        """As `str.replace`."""
        if old not in self.string:
            return self
        return self.sub(re.compile(re.escape(old)), lambda match: new)

    def slice(self, start: int, end: int) -> MappedText:
        """As `text[start:end]`, for places in the text."""
        if start == 0 and end == len(self):
            return self
        return MappedText(self.string[start:end], self._places[start:end])

    @classmethod
    def join(cls, texts: Iterable[MappedText]) -> MappedText:
        """Parts of one text, in order, with a space between them."""
        string, places = "", list[tuple[int, int]]()
        for text in texts:
            if string:
                string += " "
                places.append((places[-1][1], max(places[-1][1], text._places[0][0])))
            string += text.string
            places += text._places
        return cls(string, places)

    def strip(self, left: str = "", right: str = "") -> MappedText:
        """Without these characters at its beginning, and without those at its end."""
        end = len(self.string.rstrip(right))
        start = end - len(self.string[:end].lstrip(left))
        return self.slice(start, end)

    def on_one_line(self) -> MappedText:
        """As `" ".join(text.split())`."""
        if " ".join(self.string.split()) == self.string:
            return self
        text = self.slice(len(self) - len(self.string.lstrip()), len(self.string.rstrip()))
        return text.sub(_SPACE, " ")

    def splice(self, edits: Iterable[Edit]) -> MappedText:
        """The text with all these edits, which are in order and do not overlap."""
        string, own = self.string, self._places
        pieces, places = list[str](), list[tuple[int, int]]()
        done, is_same = 0, True
        for start, end, new in edits:
            if new == string[start:end]:
                continue
            is_same = False
            pieces.append(string[done:start])
            places += own[done:start]
            done = end
            if isinstance(new, str):
                pieces.append(new)
                places += [self.span(start, end)] * len(new)
                continue
            for text, first, after in _parts(string, start, end, new):
                pieces.append(text)
                is_kept = text == string[first:after]
                places += own[first:after] if is_kept else [self.span(first, after)] * len(text)
        if is_same:
            return self
        pieces.append(string[done:])
        places += own[done:]
        return MappedText("".join(pieces), places)


def _parts(string: str, start: int, end: int, new: tuple[str | Part, ...]) -> Iterator[Part]:
    """What takes the place of `string[start:end]`, each with what it stands for."""
    before: Part | None = None
    between = ""
    for one in (*new, None):
        if isinstance(one, str):
            between += one
            continue
        if between:
            left, right = before.end if before else start, one.start if one else end
            if not string[left:right].strip() and (owner := before or one):
                left, right = owner.start, owner.end
            yield Part(between, left, right)
            between = ""
        if one is not None:
            yield one
            before = one


@lru_cache(maxsize=256)
def _expander(template: str) -> Callable[[re.Match[str]], Replacement]:
    """What a template makes of a match."""
    literals = re.split(r"\\[1-9]", template)
    groups = [int(number[1]) for number in re.findall(r"\\[1-9]", template)]
    if not groups:
        return lambda match: template

    def expand(match: re.Match[str]) -> Replacement:
        parts: list[str | Part] = [literals[0]]
        for group, literal in zip(groups, literals[1:], strict=True):
            parts += [part(match, group), literal]
        return tuple(parts)

    return expand


def part(match: re.Match[str], group: int | str, text: str | None = None) -> Part:
    """`text` for what the group matched, or, without it, the same as it is written.

    A group that took no part in the match must not be asked for.
    """
    start, end = match.span(group)
    assert start >= 0
    return Part(match.string[start:end] if text is None else text, start, end)


def to_runs(places: Sequence[tuple[int, int]]) -> tuple[Run, ...]:
    """The places of a text's characters in few words."""
    runs: list[Run] = []
    at = 0
    while at < len(places):
        start, end = places[at]
        after = at + 1
        is_whole = end != start + 1 or places[after : after + 1] == [(start, end)]
        if is_whole:
            while after < len(places) and places[after] == (start, end):
                after += 1
        else:
            while after < len(places) and places[after] == (end, end + 1):
                after, end = after + 1, end + 1
        runs.append(Run(at, start, end, is_whole))
        at = after
    return tuple(runs)


def from_runs(runs: Sequence[Run], length: int) -> list[tuple[int, int]]:
    """From where to before where each of so many characters was written."""
    places: list[tuple[int, int]] = []
    for run, after in zip(runs, [*(run.at for run in runs), length][1:], strict=True):
        count = after - run.at
        if run.is_whole:
            places += [(run.start, run.end)] * count
        else:
            places += [(place, place + 1) for place in range(run.start, run.start + count)]
    return places
