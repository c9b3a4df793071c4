"""Plain text → segments: sentences, and parts of one that is too long to speak in one go.

A text that arrives in pieces is cut where the whole text would be: a cut is made only when nothing
that may follow can change it.

Our own rules, because the library at hand (sentence-stream 1.3) drops asterisks, so that 2*3
becomes 23, and takes 14 s for 20 000 characters of "…a". One pass, nothing lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from tts_provider.speech.abbreviations import (
    INNER_ABBREVIATIONS,
    LAST_ABBREVIATIONS,
    SENTENCE_STARTS,
)

SEGMENT_CHARACTERS = 300
"""The longest segment: about 20 s of speech, so one text never keeps an engine to itself."""

Span = tuple[int, int]
"""From where to before where, in characters of all that was pushed."""

# What may end a sentence. Latin marks need what follows them to tell; East Asian, Arabic, Indic,
# Armenian, Ethiopic and Khmer ones do not.
_CLOSERS = r"['\")\]}’”»*_¹²³⁰⁴-⁹]*(?:\[[0-9]{1,3}\])*"
_FIRM = "。！？｡؟۔।॥։።፧፨។៕"
_END = re.compile(
    rf"(?P<mark>[.!?…]+){_CLOSERS}|[{_FIRM}]+[!?！？]*[”’」』）》】〕〉)\"']*|\n[^\S\n]*\n\s*"
)
# What begins the next one: white space, bullets and opening quotes, a letter or digit.
# The second run of openers needs the white space between them, and every run is bounded: else one
# text can be shared out between two of them in n ways, and each piece that comes is searched anew.
_OPENERS = r"[\"'(\[“‘«¿¡*_#•◦–—-]{0,40}(?:\s[\"'(\[“‘«¿¡*_]{0,40})?"
_BEGIN = re.compile(rf"(?P<space>\s{{1,40}}){_OPENERS}(?P<word>\w[\w'’]{{0,40}})")
# All that is there yet of what `_BEGIN` looks for.
_BEGIN_SO_FAR = re.compile(rf"(?:\s{{1,40}}{_OPENERS})?\Z")
_LAST_WORD = re.compile(r"[\w.'’&]*\Z")
_LOOK_BACK = 24

# A sentence is at its end here, or a clause is long enough to be spoken by itself.
_END_SO_FAR = re.compile(rf"(?P<mark>[.!?…]+)[\"')\]}}’”»]*\s*\Z|[{_FIRM}][”’」』）》】〕〉]*\s*\Z")
_SHORTEST_CLAUSE = 12

# "on Oak Dr. It is": behind a name, and before a word that begins sentences and is no name.
_DRIVE = re.compile(r"[\w,] [A-Z][\w'’]+ Dr\Z")
_NAMES_TOO = frozenset(("will", "may", "an", "do", "so", "no", "i", "see"))
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|[^\W\d_a-z]")
_ADDRESS = re.compile(r"[/@:\\.]")

# Where a long sentence is best cut, best first: after a clause, after a dash, between words.
_CLAUSE = re.compile(r"[,;:)\]](?:\s|\Z)|[，、；：]")
_CUTS = (re.compile(r"[,;:)\]]\s|[，、；：]"), re.compile(r"[–—-]\s"), re.compile(r"\s"))
_JOINED = frozenset("\u200d\ufe0e\ufe0f\u20e3")


def split_segments(text: str) -> Iterator[str]:
    """Yield the text's sentences in order, each stripped, non-empty and at most
    `SEGMENT_CHARACTERS` long."""
    segmenter = Segmenter()
    for start, end in [*segmenter.push(text), *segmenter.flush()]:
        yield text[start:end]


class Segmenter:
    """Cuts a text that arrives in pieces into the same segments as the whole text."""

    def __init__(self) -> None:
        self._text = ""
        self._place = 0  # of `_text` in all that was pushed
        self._start = 0  # of the sentence that is not complete yet
        self._searched = 0  # no sentence ends before this

    @property
    def characters(self) -> int:
        """How many characters wait for the end of their sentence."""
        return len(self._text) - self._start

    def push(self, text: str) -> list[Span]:
        """Add text, and return the segments that it completes."""
        self._text += text
        return self._complete(final=False)

    def flush(self) -> list[Span]:
        """Return the rest, as if the text ended here."""
        spans = self._complete(final=True)
        self._place += len(self._text)
        self._text, self._start, self._searched = "", 0, 0
        return spans

    def take_clause(self, *, is_closed: bool, is_patient: bool) -> list[Span]:
        """What can be spoken without the rest of the sentence, for a writer who pauses.

        `is_closed`: white space follows, which is not here yet. Without it a full stop may stand in
        a token, `example.com`; it ends a sentence only for who `is_patient` and has waited long.
        """
        left = self._text[self._start :]
        end = _END_SO_FAR.search(left)
        if end is not None and self._is_over(left, end, is_closed, is_patient):
            return self.flush()
        ends = [match.end() for match in _CLAUSE.finditer(left)]
        if ends and ends[-1] == len(left) and left[-1] in ",;:)]" and not is_closed:
            ends.pop()
        if not ends or ends[-1] < _SHORTEST_CLAUSE:
            return []
        spans = self._take(self._start + ends[-1], final=True)
        self._searched = max(self._searched, self._start)
        return spans

    def _is_over(self, left: str, end: re.Match[str], is_closed: bool, is_patient: bool) -> bool:
        mark = end["mark"]
        if mark is None:
            return True
        word = _last_word(left, end.start())
        if mark == "." and (_is_inner(word) or (_may_be_inner(word) and not is_patient)):
            return False
        token = left[max(0, end.start() - _LOOK_BACK) : end.start()].rpartition(" ")[2]
        is_token = mark[-1] == "." or _ADDRESS.search(token) is not None
        return is_closed or is_patient or not is_token

    def _complete(self, *, final: bool) -> list[Span]:
        text, spans = self._text, list[Span]()
        while match := _END.search(text, self._searched):
            if not final and _is_undecided(text, match):
                break
            self._searched = match.end()
            if _is_boundary(text, match):
                spans += self._take(match.end(), final=True)
        else:
            # The next end begins after the present text; white space may be part of it.
            self._searched = max(self._searched, len(text.rstrip()))
        spans += self._take(len(text) if match is None else match.end(), final=final)
        self._forget()
        return spans

    def _take(self, end: int, *, final: bool) -> list[Span]:
        """The segments of the sentence that goes to `end`, or beyond it unless `final`."""
        text, spans, start = self._text, list[Span](), self._start
        while True:
            while start < end and text[start].isspace():
                start += 1
            stop = end
            while stop > start and text[stop - 1].isspace():
                stop -= 1
            if stop - start <= SEGMENT_CHARACTERS:
                break
            cut = start + _cut_position(text[start : start + SEGMENT_CHARACTERS + 1])
            spans.append(self._span(start, cut))
            start = cut
        if final:
            if stop > start:
                spans.append(self._span(start, stop))
            start = end
        self._start = start
        return spans

    def _span(self, start: int, end: int) -> Span:
        while self._text[end - 1].isspace():
            end -= 1
        return self._place + start, self._place + end

    def _forget(self) -> None:
        """Drop what was cut, except what `_LAST_WORD` may look back at."""
        spoken = self._start - _LOOK_BACK
        if spoken > SEGMENT_CHARACTERS:
            self._text = self._text[spoken:]
            self._place += spoken
            self._start -= spoken
            self._searched -= spoken


def _is_undecided(text: str, end: re.Match[str]) -> bool:
    """What follows may still lengthen the mark or decide whether it ends the sentence."""
    if end.end() == len(text):
        return True
    if end["mark"] is None:
        return False
    if _BEGIN_SO_FAR.match(text, end.end()):
        return True
    following = _BEGIN.match(text, end.end())
    # Only the whole next word tells whether an abbreviation ends its sentence.
    word = _last_word(text, end.start())
    return (
        following is not None
        and following.end() == len(text)
        and end["mark"] == "."
        and (_may_be_inner(word) or word == "Dr")
    )


def _is_boundary(text: str, end: re.Match[str]) -> bool:
    mark = end["mark"]
    if mark is None:  # a mark that needs no more, or a blank line
        return True
    following = _BEGIN.match(text, end.end())
    if following is None:
        return False
    word = _last_word(text, end.start()) if mark == "." else ""
    if word == "Dr" and _DRIVE.search(text, max(0, end.start() - _LOOK_BACK), end.start()):
        start = following["word"].lower()
        return following["word"][0].isupper() and start in SENTENCE_STARTS - _NAMES_TOO
    if _is_inner(word):
        return False
    if word.lower() == "no" and following["word"][0].isalpha():
        pass  # the abbreviation has a number behind it
    elif _may_be_inner(word):
        is_initial = len(following["word"]) == 1 and text[following.end() :][:1] == "."
        starts = following["word"].lower() in SENTENCE_STARTS and not is_initial
        return starts and not following["word"][0].islower()
    if "\n" in following["space"]:
        return True
    first = following["word"][0]
    if first.isdigit():  # "No. 5" and "1. 2." go on
        return mark != "." or len(word) > 2 or end.end() - end.start() > 1
    # A small letter continues the sentence; letters without case (Hindi, Hebrew) begin one.
    return first.isalpha() and not first.islower()


def _last_word(text: str, end: int) -> str:
    word = _LAST_WORD.search(text, max(0, end - _LOOK_BACK), end)
    return "" if word is None else word[0]


def _is_inner(word: str) -> bool:
    """Whether a full stop after it belongs to it and ends nothing."""
    return word.lower() in INNER_ABBREVIATIONS


def _may_be_inner(word: str) -> bool:
    """Whether a full stop after it belongs to it and may end the sentence too."""
    return word.lower() in LAST_ABBREVIATIONS or _INITIALS.fullmatch(word) is not None


def _cut_position(sentence: str) -> int:
    """Where to cut what is longer than a segment; at most `SEGMENT_CHARACTERS`."""
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(sentence, 0, SEGMENT_CHARACTERS)]
        # A cut in the first third would leave a fragment that sounds broken off.
        if ends and ends[-1] > SEGMENT_CHARACTERS // 3:
            return ends[-1]
    cut = SEGMENT_CHARACTERS
    while cut > SEGMENT_CHARACTERS // 3 and _is_joined(sentence[cut - 1], sentence[cut]):
        cut -= 1
    return cut if cut > SEGMENT_CHARACTERS // 3 else SEGMENT_CHARACTERS


def _is_joined(before: str, after: str) -> bool:
    """Whether two characters are one sign to a reader."""
    return (
        before == "\u200d"
        or after in _JOINED
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or unicodedata.category(after) in ("Mn", "Mc", "Me")
    )
