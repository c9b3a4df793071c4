"""Words and when they are spoken → cues, which is how captions are divided.

A cue has one or two lines of at most 42 characters and is shown for 1 to 7 s, as broadcasters have
it. Where it ends, and where its first line does, is chosen over all words at once: at sentences,
else at marks, else before a conjunction or a preposition, and so that no word stands alone.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tts_provider.client import SpokenWord
from tts_provider.speech.segment import Segmenter

LINE_CHARACTERS = 42
SHORTEST_MS, LONGEST_MS = 1000, 7000
# A silence that no cue spans, one at which a cue rather ends, one that shows nothing new.
_SILENCE_MS, _PAUSE_MS, _GAP_MS = 2000, 700, 500

# What the choice weighs. A cut within a phrase costs more than any that is at its end, a word that
# stands alone more than two of those.
_AT_MARK, _BEFORE_PHRASE, _WITHIN_PHRASE, _BEHIND_OPENER = 2, 4, 10, 20
_A_CUE, _SENTENCE_INSIDE, _PAUSE_INSIDE = 3, 6, 8
_LONE_WORD, _LONE_LINE, _TOO_SHORT, _A_LINE = 45, 25, 15, 0.5
_UNEVEN = 0.1  # a character by which two lines differ

_MARKS = frozenset(",;:.!?…–—)]}»”、。，；：！？")
# English; in other languages the marks and the lengths decide.
_PREPOSITIONS = frozenset(
    """
    about above across after against along among around at before behind below beneath beside
    between beyond by despite down during except for from in inside into like near of off on onto
    out outside over past since through throughout to toward towards under until up upon with
    within without
    """.split()  # noqa: SIM905 - a list of fifty strings reads worse
)
_CONJUNCTIONS = frozenset(
    """
    and although as because but if nor once or so than that though unless when whenever where
    wherever whereas whether which while who whom whose yet
    """.split()  # noqa: SIM905
)
# What belongs to the word behind it.
_OPENERS = (
    frozenset(
        """
        a an the this these those my your his her its our their no every each some any very more
        i you he she it we they is are was were be been am has have had do does did will would can
        could shall should may might must not don't mr mrs ms dr
        """.split()  # noqa: SIM905
    )
    | _PREPOSITIONS
    | _CONJUNCTIONS
)


@dataclass(frozen=True)
class CueWord:
    """What no cue divides: a word and what it touches in the text."""

    text: str
    start_ms: int
    end_ms: int
    is_spaced: bool
    """White space is before it."""


@dataclass(frozen=True)
class Cue:
    """What is shown from `start_ms` until `end_ms`, in one line or two."""

    start_ms: int
    end_ms: int
    voice: str
    lines: tuple[tuple[CueWord, ...], ...]


def divide(text: str, words: Sequence[SpokenWord]) -> list[Cue]:
    """The cues of `text`, whose `words` are in order. None overlap."""
    segmenter = Segmenter()
    sentence_ends = [end for _, end in [*segmenter.push(text), *segmenter.flush()]]
    cues: list[Cue] = []
    run: list[SpokenWord] = []
    for word in words:
        if run and _is_apart(run[-1], word):
            cues += _Run(text, run, sentence_ends, word.start_ms).cues()
            run = []
        run.append(word)
    if run:
        cues += _Run(text, run, sentence_ends, None).cues()
    return _timed(cues, SHORTEST_MS)


def one_word_each(text: str, words: Sequence[SpokenWord]) -> list[Cue]:
    """Each word as a cue of its own."""
    shown = [
        Cue(cut.start_ms, cut.end_ms, "", ((_cue_word(cut, is_spaced=False),),))
        for cut, _ in _joined(text, words)
    ]
    return _timed(shown, 1)


def _is_apart(word: SpokenWord, following: SpokenWord) -> bool:
    """No cue has both."""
    return (word.turn, word.voice) != (following.turn, following.voice) or (
        following.start_ms - word.end_ms >= _SILENCE_MS
    )


def _joined(text: str, words: Sequence[SpokenWord]) -> Iterator[tuple[SpokenWord, bool]]:
    """Words that touch each other in the text as one, those longer than a line in parts; whether
    white space is before them."""
    whole: SpokenWord | None = None
    is_spaced = False
    for word in words:
        if whole is None:
            whole = word
            continue
        spaced = (word.turn, word.voice) != (whole.turn, whole.voice) or any(
            map(str.isspace, text[whole.end : word.start])
        )
        if spaced or _is_wide(whole.text[-1:]) or _is_wide(word.text[:1]):
            yield from _parts(whole, is_spaced)
            whole, is_spaced = word, spaced
        else:
            joined = whole.text + word.text
            whole = replace(whole, text=joined, end_ms=word.end_ms, end=word.end)
    if whole is not None:
        yield from _parts(whole, is_spaced)


def _parts(word: SpokenWord, is_spaced: bool) -> Iterator[tuple[SpokenWord, bool]]:
    """A word that fits into no line, as a sentence without spaces, by equal parts of its time."""
    shown = " ".join(word.text.split())
    if _width(shown) <= LINE_CHARACTERS:
        yield replace(word, text=shown), is_spaced
        return
    size = LINE_CHARACTERS // 2 if any(map(_is_wide, shown)) else LINE_CHARACTERS
    length_ms = word.end_ms - word.start_ms
    for at in range(0, len(shown), size):
        part = shown[at : at + size]
        start_ms = word.start_ms + length_ms * at // len(shown)
        end_ms = word.start_ms + length_ms * (at + len(part)) // len(shown)
        yield replace(word, text=part, start_ms=start_ms, end_ms=end_ms), is_spaced and at == 0


def _is_wide(character: str) -> bool:
    """As wide as two of ours."""
    return character != "" and unicodedata.east_asian_width(character) in "WF"


def _width(text: str) -> int:
    return len(text) if text.isascii() else len(text) + sum(map(_is_wide, text))


def _cue_word(word: SpokenWord, *, is_spaced: bool) -> CueWord:
    return CueWord(word.text, word.start_ms, word.end_ms, is_spaced)


def _cut(word: SpokenWord, following: SpokenWord, ends_sentence: bool, is_spaced: bool) -> float:
    if ends_sentence or following.start_ms - word.end_ms >= _PAUSE_MS:
        return 0
    if word.text[-1] in _MARKS:
        return _AT_MARK
    if word.text.strip("“‘\"'([").lower() in _OPENERS or not is_spaced:
        return _BEHIND_OPENER
    if following.text.strip("“‘\"'([").lower() in _PREPOSITIONS | _CONJUNCTIONS:
        return _BEFORE_PHRASE
    return _WITHIN_PHRASE


class _Run:
    """Words that any cue may have together, and the cheapest way to divide them."""

    def __init__(
        self,
        text: str,
        spoken: Sequence[SpokenWord],
        sentence_ends: Sequence[int],
        following_ms: int | None,
    ) -> None:
        """`following_ms` is when something else is said behind them."""
        joined = list(_joined(text, spoken))
        self._voice = spoken[0].voice
        self._words = [_cue_word(word, is_spaced=is_spaced) for word, is_spaced in joined]
        self._following_ms = following_ms
        sentences = [bisect_left(sentence_ends, word.end) for word, _ in joined]
        self._ends_sentence = [a != b for a, b in pairwise(sentences)] + [True]
        # What it costs that a cue, or half as much that a line, ends behind each word.
        self._cuts = [
            _cut(word, ahead, ends_sentence, is_spaced)
            for (word, _), (ahead, is_spaced), ends_sentence in zip(
                joined[:-1], joined[1:], self._ends_sentence[:-1], strict=True
            )
        ] + [0.0]
        self._widths = [_width(word.text) for word in self._words]
        # In characters from the first word to before each, and spaces between.
        self._places = [0]
        for word, width in zip(self._words, self._widths, strict=True):
            self._places.append(self._places[-1] + word.is_spaced + width)

    def cues(self) -> list[Cue]:
        count = len(self._words)
        costs = [0.0] + [float("inf")] * count
        cues_before = [(0, 0)] * (count + 1)  # the last one's first word, its second line's
        for end in range(1, count + 1):
            for start in range(end - 1, -1, -1):
                broken = self._break(start, end)
                if broken is None:
                    break  # and more words are too many all the more
                cost = costs[start] + broken[0] + self._cost(start, end)
                if cost < costs[end]:
                    costs[end], cues_before[end] = cost, (start, broken[1])
        cues: list[Cue] = []
        end = count
        while end:
            start, broken_at = cues_before[end]
            words = self._words[start:end]
            lines = [words[: broken_at - start], words[broken_at - start :]]
            shown = tuple(tuple(line) for line in lines if line)
            cues.append(Cue(words[0].start_ms, words[-1].end_ms, self._voice, shown))
            end = start
        return cues[::-1]

    def _cost(self, start: int, end: int) -> float:
        cost = _A_CUE + self._cuts[end - 1] + _LONE_WORD * (end - start == 1)
        following_ms = self._words[end].start_ms if end < len(self._words) else self._following_ms
        if following_ms is not None:
            missing_ms = SHORTEST_MS - (following_ms - self._words[start].start_ms)
            cost += _TOO_SHORT * (1 + missing_ms / SHORTEST_MS) if missing_ms > 0 else 0
        for at in range(start, end - 1):
            if self._words[at + 1].start_ms - self._words[at].end_ms >= _PAUSE_MS:
                cost += _PAUSE_INSIDE
            elif self._ends_sentence[at]:
                cost += _SENTENCE_INSIDE
        return cost

    def _break(self, start: int, end: int) -> tuple[float, int] | None:
        """What the lines cost and where the second begins, `end` where there is one; None where the
        words are too many for a cue."""
        if end - start == 1:
            return 0.0, end
        if self._words[end - 1].end_ms - self._words[start].start_ms > LONGEST_MS:
            return None
        first = self._places[start] + self._words[start].is_spaced
        if self._places[end] - first <= LINE_CHARACTERS:
            return 0.0, end
        best: tuple[float, int] | None = None
        for at in range(end - 1, start, -1):
            upper = self._places[at] - first
            lower = self._places[end] - self._places[at] - self._words[at].is_spaced
            if lower > LINE_CHARACTERS:
                break
            if upper <= LINE_CHARACTERS:
                alone = (at - start == 1) + (end - at == 1)
                cost = _A_LINE * self._cuts[at - 1] + _UNEVEN * abs(upper - lower)
                cost += _LONE_LINE * alone
                if best is None or cost < best[0]:
                    best = cost, at
        return best


def _timed(cues: list[Cue], shortest_ms: int) -> list[Cue]:
    """Each stays until the next one where that is near, and for its shortest time where there is
    room for it."""
    timed: list[Cue] = []
    for number, cue in enumerate(cues):
        start_ms = max(cue.start_ms, timed[-1].end_ms) if timed else cue.start_ms
        end_ms = max(cue.end_ms, start_ms + shortest_ms)
        if number + 1 < len(cues):
            next_ms = cues[number + 1].start_ms
            end_ms = next_ms if next_ms - end_ms < _GAP_MS else end_ms
        end_ms = min(end_ms, start_ms + LONGEST_MS)
        timed.append(replace(cue, start_ms=start_ms, end_ms=max(end_ms, start_ms + 1)))
    return timed
