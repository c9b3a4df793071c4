"""Punctuation that is not spoken: brackets, dashes and quotes become pauses, the rest is
dropped."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Replacement, part
from tts_provider.speech.normalize.numbers import spelled
from tts_provider.speech.normalize.pattern import CURRENCY, LETTER, as_words
from tts_provider.speech.normalize.units import UNIT

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~•]")
_POWER_SIGN = re.compile(
    r"(?<=[0-9)]) ?\*\* ?(?=[-(0-9A-Za-z])|(?<=\b[A-Za-z])\*\*(?=[-(0-9A-Za-z])"
)
_TIMES_SIGN = re.compile(
    r"(?<=[0-9)])(?:\*| \* )(?=[0-9(]|[A-Za-z]\b)|(?<=\b[A-Za-z])(?:\*| \* )(?=[0-9(]|[A-Za-z]\b)"
)
_MARKS_LEFT = re.compile(r"[*`]|\\(?=[^\w\s\\])|#{2,}")
_EMOTICON = re.compile(r"¯\\?_?\(ツ\)_?/¯|[:;](?<!\S.)-?[()](?!\S)")
_PLURAL_IN_BRACKETS = re.compile(rf"(?<={LETTER})\((s|es)\)")
_PLAN = re.compile(r"([0-9])(?<![\w.,$].)0([0-9])\(([a-z])\)")  # 401(k)
_LETTER_IN_BRACKETS = re.compile(r"(?<=[0-9])\(([a-z])\)")
_ORDER = re.compile(r"O\((?<![^\W_]..)([^()]{1,24})\)")  # O(n log n)
_EMPTY_BRACKETS = re.compile(r"\(\)|\[\]|\{\}")
_ARROW = re.compile(r"([-=])(?<![-<=].)\1?>(?!=)")
_FUNCTION = re.compile(r"(?<![^\W_])([A-Za-z])\(([A-Za-z0-9])\)")  # f(x)


def drop_marks(text: MappedText) -> MappedText:
    """On one line, without what is left of markup."""
    text = text.replace("\u00a0", "\u202f")
    if not text.search(_PUNCTUATION):
        return text
    text = text.sub(_EMOTICON, "")
    text = text.sub(_ARROW, " to ")
    if "(" in text:
        text = text.sub(_FUNCTION, r"\1 of \2")
        text = text.sub(_ORDER, r"O of \1")
    if "*" in text:
        text = text.sub(_POWER_SIGN, "^")
        text = text.sub(_TIMES_SIGN, "×")
    text = text.sub(_MARKS_LEFT, "")
    if "(" in text:
        text = text.sub(_PLURAL_IN_BRACKETS, r"\1")
        text = text.sub(_PLAN, r"\1 oh \2 \3")
        text = text.sub(_LETTER_IN_BRACKETS, r" \1")
    return text.sub(_EMPTY_BRACKETS, " ")


_LEADING_POINT = re.compile(rf"\.(?<![\w.$£€¥₹].)(?=[0-9]+(?:[.,%][0-9]|%| ?(?:{UNIT})(?![^\W_])))")
_BARE_POINT = re.compile(r"\.(?<![\w.$£€¥₹].)([0-9]+)(?![0-9])")
_CLOSED_SENTENCE = re.compile(r"[)\]}](?<=[.!?].)")
_PAUSE = re.compile(r"[()\[\]{}|•]|--+| - ")
_SPACED_DASH = re.compile(
    rf"([0-9](?<![0-9].)[0-9]*)( ?[AaPp]\.?[Mm]\.?)? - (?={CURRENCY}?([0-9]+))"
)
_TERM = re.compile(r"[0-9]*[xyzn](?![^\W_])")  # 4x
_TERM_MINUS = re.compile(r" - (?<=[0-9][xyzn] - )(?=[0-9]|[xyzn](?![^\W_]))")
_MINUS_BETWEEN = re.compile(r"([0-9](?<![\w.,-].)[0-9]*) ?- ?([0-9]+)(?= ?=)")
_CURRENCY_MINUS = re.compile(rf"({CURRENCY})-(?=[0-9])")
_STRAY = re.compile(
    rf"_|===+|~(?!-?{CURRENCY}?[0-9])|\^(?![^\W_]|-[0-9])"
    rf"|-(?<![^\W_].)(?!{CURRENCY}?[0-9])|-(?![^\W_]|{CURRENCY}[0-9])"
)
_MARKS = re.compile(r"[,.;:!?](?: ?[,.;:!?])+")
_COMMA_AFTER_QUOTED_MARK = re.compile(r",(?<=[,.;:!?][\"'],)| ,(?<=[,.;:!?][\"'] ,)")
_LOOSE_HYPHEN = re.compile(rf"-(?<![^\W_].)(?={LETTER})")
_SPACE_BEFORE_MARK = re.compile(r" ([,.;:!?])(?!\w)")


def tidy_punctuation(text: MappedText) -> MappedText:
    """Brackets and dashes become commas, and of several marks in a row the strongest stays."""
    if not text.search(_PUNCTUATION):
        return text.on_one_line()
    text = text.strip(right=" ()[]{}").sub(_LEADING_POINT, "0.")
    text = text.sub(_BARE_POINT, lambda match: as_words(match, f"point {spelled(match[1])}"))
    text = text.replace("\\", " ").sub(_CLOSED_SENTENCE, " ")
    text = text.sub(_MINUS_BETWEEN, r"\1 minus \2")
    text = text.sub(_TERM_MINUS, " minus ")
    text = text.sub(_SPACED_DASH, _spaced_dash)
    text = text.sub(_PAUSE, " , ")
    text = text.sub(_CURRENCY_MINUS, lambda match: f"-{match[1]}")
    text = text.sub(_STRAY, " ")
    text = text.on_one_line().sub(_MARKS, _strongest_mark)
    text = text.sub(_COMMA_AFTER_QUOTED_MARK, "")
    return close_up(text).strip(left=" ,.;:!?")


def _spaced_dash(match: re.Match[str]) -> Replacement:
    """Read "5 - 10" as a range and "10 - 5" as a subtraction; times and dates only make ranges."""
    left, half, right = match[1], match[2] or "", match[3]
    part_of_more = match.string[max(0, match.start() - 1) : match.start()].endswith(tuple(":/.,"))
    ascends = (len(left), left) < (len(right), right)
    is_term = _TERM.match(match.string, match.end()) is not None
    if is_term or match.string[: match.start()].endswith("^"):
        word = "minus"
    else:
        word = "to" if part_of_more or ascends or half else "minus"
    return part(match, 1), *([part(match, 2)] if half else []), f" {word} "


def _strongest_mark(match: re.Match[str]) -> str:
    marks = match[0]
    strongest = next(mark for mark in "?!.:;," if mark in marks)
    following = match.string[match.end() : match.end() + 2]
    trails_off = marks.startswith("..") and following.lstrip()[:1].islower()
    # The comma of "etc., and" is the sentence's, the full stop only the abbreviation's.
    if strongest == "." and (marks in (".,", ".;", ".:") or trails_off):
        strongest = "," if trails_off else marks[1]
    return strongest + ("" if following[:1] in ("", " ", '"', "'") else " ")


def close_up(text: MappedText) -> MappedText:
    text = text.sub(_LOOSE_HYPHEN, " ")
    return text.on_one_line().sub(_SPACE_BEFORE_MARK, r"\1")
