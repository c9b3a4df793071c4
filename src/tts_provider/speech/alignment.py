"""Which spoken word is which written one: `$5` is one written word, spoken as two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from tts_provider.speech.normalize import normalize
from tts_provider.speech.plain import Run

_TOKEN = re.compile(r"\S+")
_AROUND = ".,;:!?\"'()[]{}…“”‘’«»*_`"


@dataclass(frozen=True)
class Place:
    """A spoken word: characters from `words_start` to before `words_end` of a passage's words, and
    from `start` to before `end` of the whole text as it was written."""

    words_start: int
    words_end: int
    start: int
    end: int


def align(text: str, words: str, runs: Sequence[Run]) -> list[Place]:
    """The place of every spoken word, in order; `runs` tell where `text` was written.

    Places never go back, and stay within the text.
    """
    spoken, written = _tokens(words), _tokens(text)
    if not written:
        return []
    places = _places(runs, len(text))
    found: list[Place] = []
    for (start, end), index in zip(spoken, _owners(words, spoken, text, written), strict=True):
        first, last = written[index]
        found.append(Place(start, end, places[first][0], max(p[1] for p in places[first:last])))
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


def _tokens(text: str) -> list[tuple[int, int]]:
    """Where its words are, without the punctuation around them."""
    tokens = []
    for match in _TOKEN.finditer(text):
        bare = match[0].strip(_AROUND)
        if bare:
            start = match.start() + match[0].index(bare)
            tokens.append((start, start + len(bare)))
    return tokens


def _owners(
    words: str, spoken: list[tuple[int, int]], text: str, written: list[tuple[int, int]]
) -> list[int]:
    """For every spoken word, the number of the written one."""
    said = [words[start:end].casefold() for start, end in spoken]
    wrote = [text[start:end].casefold() for start, end in written]
    owners: list[int] = []
    matcher = SequenceMatcher(None, said, wrote, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            owners += range(c, d)
        elif c == d:  # said, and nowhere written: it belongs to what is before
            owners += [max(c - 1, 0)] * (b - a)
        else:
            owners += _shared_out(b - a, c, [text[slice(*written[i])] for i in range(c, d)])
    return owners


def _shared_out(count: int, first: int, tokens: list[str]) -> list[int]:
    """So many spoken words among some written ones, by how many each is spoken as alone."""
    weights = [max(1, len(normalize(token).split())) if len(tokens) > 1 else 1 for token in tokens]
    total, shares, done = sum(weights), list[int](), 0
    for weight in weights:
        done += weight
        shares.append(round(count * done / total))
    return [first + next(i for i, end in enumerate(shares) if n < end) for n in range(count)]
