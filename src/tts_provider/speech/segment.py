"""Text → segments: sentences, and parts of a sentence where one is too long to speak in one go.

A text that arrives in pieces is cut where the whole text would be: a cut is made only when nothing
that may follow can change it.

Our own rules, because the library at hand (sentence-stream 1.3) drops asterisks, so that 2*3
becomes 23, and takes 14 s for 20 000 characters of "…a". One pass, nothing lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SEGMENT_CHARACTERS = 300
"""The longest segment: about 20 s of speech, so one text never keeps an engine to itself."""

# What may end a sentence: Latin and Indic marks with closing quotes, East Asian ones, a blank line.
_END = re.compile(r"(?P<mark>[.!?…؟।॥]+)['\")\]}’”»]*|[。！？]+[”’」』）》】〕〉]*|\n[^\S\n]*\n\s*")
# What begins the next one: white space, opening quotes, a letter or digit.
_BEGIN = re.compile(r"\s+[\"'(\[“‘«¿¡*_#-]*(\w)")
_LAST_WORD = re.compile(r"[\w.]*\Z")
_LOOK_BACK = 20
_MORE_SPACE = re.compile(r"(?<=\s)[^\S\n]+|(?<=\n\n)\n+")
# All that is there yet of what `_BEGIN` looks for.
_BEGIN_SO_FAR = re.compile(r"\s*[\"'(\[“‘«¿¡*_#-]*\Z")

# A sentence is at its end here, or a clause is long enough to be spoken by itself.
_END_SO_FAR = re.compile(r"(?P<mark>[.!?…؟।॥。！？]+)['\")\]}’”»」』）》】〕〉]*\s*\Z")
_SHORTEST_CLAUSE = 12

# Words that a full stop belongs to. One capital letter before it is an initial, as in J. Smith.
_ABBREVIATIONS = frozenset(
    """
    dr mr mrs ms mx prof st sr jr vs no nos inc ltd co corp gen col lt sgt capt cmdr adm rev hon gov
    sen rep pres dept univ approx est fig vol pp ed al e.g i.e cf u.s u.k u.n a.m p.m
    jan feb mar apr jun jul aug sep sept oct nov dec mt ft ave blvd rd
    """.split()  # noqa: SIM905 - a list of sixty strings reads worse
)

# Where a long sentence is best cut, best first: after a clause, after a dash, between words.
_CUTS = (re.compile(r"[,;:)\]]\s"), re.compile(r"[–—-]\s"), re.compile(r"\s"))


def split_segments(text: str) -> Iterator[str]:
    """Yield the text's sentences in order, each stripped, non-empty and at most
    `SEGMENT_CHARACTERS` long."""
    segmenter = Segmenter()
    yield from segmenter.push(text)
    yield from segmenter.flush()


class Segmenter:
    """Cuts a text that arrives in pieces; all segments together are those of the whole text."""

    def __init__(self) -> None:
        self._text = ""
        self._start = 0  # of the sentence that is not complete yet
        self._searched = 0  # no sentence ends before this

    @property
    def characters(self) -> int:
        """How many are waiting for the end of their sentence."""
        return len(self._text) - self._start

    def push(self, text: str) -> list[str]:
        """The segments that `text` completes."""
        # A run of spaces counts as one, so that it is not searched again and again.
        before = self._text[-2:]
        text = _MORE_SPACE.sub("", before + text)[len(before) :]
        self._text = self._text + text if self._text else text.lstrip()
        segments = [segment for part in self._complete(final=False) for segment in part]
        self._forget()
        return segments

    def flush(self) -> list[str]:
        """What is left, as if the text ended here."""
        segments = [segment for part in self._complete(final=True) for segment in part]
        self._text, self._start, self._searched = "", 0, 0
        return segments

    def take_clause(self) -> list[str]:
        """What can be spoken without the rest of the sentence: for a writer who pauses."""
        left = self._text[self._start :]
        end = _END_SO_FAR.search(left)
        if end is not None and not _is_abbreviation(left, end):
            return self.flush()
        ends = [match.end() for match in _CUTS[0].finditer(left)]
        if not ends or ends[-1] < _SHORTEST_CLAUSE:
            return []
        segments = self._take(self._start + ends[-1], final=True)
        self._searched = max(self._searched, self._start)
        return segments

    def _complete(self, *, final: bool) -> Iterator[list[str]]:
        text = self._text
        while match := _END.search(text, self._searched):
            if not final and _is_undecided(text, match):
                break
            self._searched = match.end()
            if _is_boundary(text, match):
                yield self._take(match.end(), final=True)
        else:
            # The next end begins after what is here; white space may be a part of it.
            self._searched = max(self._searched, len(text.rstrip()))
        yield self._take(len(text) if match is None else match.end(), final=final)

    def _take(self, end: int, *, final: bool) -> list[str]:
        """The segments of the sentence that goes to `end`, or beyond it unless `final`."""
        sentence = self._text[self._start : end]
        segments, left = _split_sentence(sentence.strip())
        if final:
            self._start = end
            segments = [*segments, left] if left else segments
        elif segments:
            self._start += len(sentence.rstrip()) - len(left)
        return segments

    def _forget(self) -> None:
        """Drop what was cut, except what `_LAST_WORD` may look back at."""
        spoken = self._start - _LOOK_BACK
        if spoken > SEGMENT_CHARACTERS:
            self._text = self._text[spoken:]
            self._start -= spoken
            self._searched -= spoken


def _is_undecided(text: str, end: re.Match[str]) -> bool:
    """What follows may still lengthen the mark or decide whether it ends the sentence."""
    if end.end() == len(text):
        return True
    return end["mark"] is not None and _BEGIN_SO_FAR.match(text, end.end()) is not None


def _is_boundary(text: str, end: re.Match[str]) -> bool:
    mark = end["mark"]
    if mark is None:  # an East Asian mark or a blank line
        return True
    following = _BEGIN.match(text, end.end())
    # A small letter goes on with the sentence; letters without case (Hindi, Hebrew) begin one.
    if following is None or not following[1].isalpha() or following[1].islower():
        return False
    return not _is_abbreviation(text, end)


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    """Whether the mark is a full stop that belongs to the word before it."""
    if end["mark"] != ".":
        return False
    word = _LAST_WORD.search(text, max(0, end.start() - _LOOK_BACK), end.start())
    last = "" if word is None else word[0]
    return last.lower() in _ABBREVIATIONS or (len(last) == 1 and last.isupper())


def _split_sentence(sentence: str) -> tuple[list[str], str]:
    """The parts that a sentence, stripped, is too long for, and what is left of it."""
    parts = []
    while len(sentence) > SEGMENT_CHARACTERS:
        cut = _cut_position(sentence)
        parts.append(sentence[:cut].strip())
        sentence = sentence[cut:].lstrip()
    return parts, sentence


def _cut_position(sentence: str) -> int:
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(sentence, 0, SEGMENT_CHARACTERS)]
        # A cut in the first third would leave a stump that sounds broken off.
        if ends and ends[-1] > SEGMENT_CHARACTERS // 3:
            return ends[-1]
    return SEGMENT_CHARACTERS
