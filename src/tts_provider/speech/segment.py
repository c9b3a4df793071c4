"""Text → segments: sentences, and parts of a sentence where one is too long to speak in one go.

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


def split_segments(text: str, longest: int = SEGMENT_CHARACTERS) -> Iterator[str]:
    """Yield the text's sentences in order, each stripped, non-empty and at most `longest` long."""
    start = 0
    for match in _END.finditer(text):
        if _is_boundary(text, match):
            yield from _split_sentence(text[start : match.end()].strip(), longest)
            start = match.end()
    yield from _split_sentence(text[start:].strip(), longest)


def _is_boundary(text: str, end: re.Match[str]) -> bool:
    mark = end["mark"]
    if mark is None:  # an East Asian mark or a blank line
        return True
    following = _BEGIN.match(text, end.end())
    # A small letter goes on with the sentence; letters without case (Hindi, Hebrew) begin one.
    if following is None or not following[1].isalpha() or following[1].islower():
        return False
    if mark != ".":
        return True
    word = _LAST_WORD.search(text, max(0, end.start() - 20), end.start())
    last = "" if word is None else word[0]
    return last.lower() not in _ABBREVIATIONS and not (len(last) == 1 and last.isupper())


def _split_sentence(sentence: str, longest: int) -> Iterator[str]:
    while len(sentence) > longest:
        cut = _cut_position(sentence, longest)
        if part := sentence[:cut].strip():
            yield part
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def _cut_position(sentence: str, longest: int) -> int:
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(sentence, 0, longest)]
        # A cut in the first third would leave a stump that sounds broken off.
        if ends and ends[-1] > longest // 3:
            return ends[-1]
    return longest
