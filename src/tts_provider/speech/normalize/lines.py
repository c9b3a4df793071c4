"""Joins words that the end of a line has cut in two."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Replacement
from tts_provider.speech.normalize.english import is_word
from tts_provider.speech.normalize.pattern import LETTER

_HYPHEN = re.compile(rf"-(?<={LETTER}-)[ \t]{{0,8}}\n[ \t]{{0,8}}(?={LETTER})")
_FIRST = re.compile(rf"({LETTER}{{1,30}})\Z")
_LAST = re.compile(rf"{LETTER}{{1,30}}")


def join_lines(text: MappedText) -> MappedText:
    """`nega-⏎tive` is one word, `well-⏎known` keeps its hyphen."""
    return text.sub(_HYPHEN, _joint)


def _joint(match: re.Match[str]) -> Replacement:
    before = _FIRST.search(match.string, max(0, match.start() - 30), match.start())
    after = _LAST.match(match.string, match.end())
    assert before is not None
    assert after is not None
    first, last = before[1], after[0]
    if not last.islower() or len(first) == 1:
        return "-"
    is_compound = is_word(first) and is_word(last) and not is_word(first + last)
    return "-" if is_compound else ""
