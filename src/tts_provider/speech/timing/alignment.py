"""Which spoken word is which written one: `$5` is one written word, spoken as two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from tts_provider.speech.normalize import normalize
from tts_provider.speech.structure.plain_text import Run

_AROUND = ".,;:!?\"'()[]{}—–…“”‘’«»*_`、。，！？；：「」『』（）《》"
# Scripts without spaces, of which each character is a word: Han and kana.
_ALONE = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# What lengthens or changes the character before it.
_ITS = "ー々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
# Dashes and dots between two words end the first one.
_TOKEN = re.compile(
    rf"[—–…]*(?:[(「『（《]*[{_ALONE}][{_ITS}、。，！？；：」』）》.,!?;:)]*|[^\s—–…{_ALONE}]+)[—–…]*"
)


@dataclass(frozen=True)
class Place:
    """A spoken word: characters from `words_start` to before `words_end` of a passage's words.

    What was written for it, with the punctuation that it touches, is from `start` to before `end`
    of the whole text, which is from `text_start` to before `text_end` of the passage's own.
    """

    words_start: int
    words_end: int
    start: int
    end: int
    text_start: int
    text_end: int


def align(text: str, words: str, runs: Sequence[Run]) -> list[Place]:
    """The place of every spoken word, in order; `runs` tell where `text` was written.

    Places never go back, and stay within the text.
    """
    spoken, written = _tokens(words), _tokens(text)
    if not written:
        return []
    places = _places(runs, len(text))
    owners = _owners(
        [words[token.bare] for token in spoken], [text[token.bare] for token in written]
    )
    found: list[Place] = []
    for owner, together in groupby(zip(spoken, owners, strict=True), lambda pair: pair[1]):
        whole = written[owner].whole
        # What was put in, as a comma behind a list's number, was written nowhere.
        kept = [at for at in range(whole.start, whole.stop) if places[at][0] < places[at][1]]
        start, end = places[kept[0]][0], max(places[at][1] for at in kept)
        found += (
            Place(token.bare.start, token.bare.stop, start, end, kept[0], kept[-1] + 1)
            for token, _ in together
        )
    return found


def _places(runs: Sequence[Run], length: int) -> list[tuple[int, int]]:
    """Of every character."""
    places: list[tuple[int, int]] = []
    for run, end in zip(runs, [*(run.at for run in runs[1:]), length], strict=True):
        for at in range(end - run.at):
            places.append(
                (run.start, run.end) if run.is_whole else (run.start + at, run.start + at + 1)
            )
    return places


class _Token(NamedTuple):
    whole: slice
    bare: slice
    """Without the punctuation around it."""


def _tokens(text: str) -> list[_Token]:
    """Where its words are."""
    tokens = []
    for match in _TOKEN.finditer(text):
        bare = match[0].strip(_AROUND)
        if bare:
            start = match.start() + match[0].index(bare)
            tokens.append(_Token(slice(*match.span()), slice(start, start + len(bare))))
    return tokens


def _owners(spoken: Sequence[str], written: Sequence[str]) -> list[int]:
    """For every spoken word, the number of the written one."""
    said, wrote = [word.casefold() for word in spoken], [word.casefold() for word in written]
    if said == wrote:
        return [*range(len(wrote))]
    owners: list[int] = []
    matcher = SequenceMatcher(None, said, wrote, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            owners += range(c, d)
        elif c == d:  # said, and nowhere written: it belongs to what is before
            owners += [max(c - 1, 0)] * (b - a)
        else:
            owners += _shared_out(b - a, c, written[c:d])
    return owners


def _shared_out(count: int, first: int, tokens: Sequence[str]) -> list[int]:
    """So many spoken words among some written ones, by how many each is spoken as alone."""
    weights = [max(1, len(normalize(token).split())) if len(tokens) > 1 else 1 for token in tokens]
    total, shares, done = sum(weights), list[int](), 0
    for weight in weights:
        done += weight
        shares.append(round(count * done / total))
    return [first + next(i for i, end in enumerate(shares) if n < end) for n in range(count)]
