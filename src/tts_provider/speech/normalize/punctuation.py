"""Marks that are no words: brackets, dashes and quotes become pauses, the rest goes."""

from __future__ import annotations

import re

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


def drop_marks(text: str) -> str:
    """On one line, without what is left of markup."""
    text = text.replace("\u00a0", "\u202f")
    if not _PUNCTUATION.search(text):
        return text
    text = _EMOTICON.sub("", text)
    text = _ARROW.sub(" to ", text)
    if "(" in text:
        text = _FUNCTION.sub(r"\1 of \2", text)
        text = _ORDER.sub(r"O of \1", text)
    if "*" in text:
        text = _POWER_SIGN.sub("^", text)
        text = _TIMES_SIGN.sub("×", text)
    text = _MARKS_LEFT.sub("", text)
    if "(" in text:
        text = _PLURAL_IN_BRACKETS.sub(r"\1", text)
        text = _PLAN.sub(r"\1 oh \2 \3", text)
        text = _LETTER_IN_BRACKETS.sub(r" \1", text)
    return _EMPTY_BRACKETS.sub(" ", text)


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


def tidy_punctuation(text: str) -> str:
    """Brackets and dashes become commas, and of several marks in a row the strongest stays."""
    if not _PUNCTUATION.search(text):
        return " ".join(text.split())
    text = _LEADING_POINT.sub("0.", text.rstrip(" ()[]{}"))
    text = _BARE_POINT.sub(lambda match: as_words(match, f"point {spelled(match[1])}"), text)
    text = _CLOSED_SENTENCE.sub(" ", text.replace("\\", " "))
    text = _MINUS_BETWEEN.sub(r"\1 minus \2", text)
    text = _TERM_MINUS.sub(" minus ", text)
    text = _SPACED_DASH.sub(_spaced_dash, text)
    text = _PAUSE.sub(" , ", text)
    text = _CURRENCY_MINUS.sub(r"-\1", text)
    text = _STRAY.sub(" ", text)
    text = _MARKS.sub(_strongest_mark, " ".join(text.split()))
    text = _COMMA_AFTER_QUOTED_MARK.sub("", text)
    return close_up(text).lstrip(" ,.;:!?")


def _spaced_dash(match: re.Match[str]) -> str:
    """Read "5 - 10" as a range and "10 - 5" as a subtraction; times and dates only make ranges."""
    left, half, right = match[1], match[2] or "", match[3]
    part_of_more = match.string[max(0, match.start() - 1) : match.start()].endswith(tuple(":/.,"))
    ascends = (len(left), left) < (len(right), right)
    is_term = _TERM.match(match.string, match.end()) is not None
    if is_term or match.string[: match.start()].endswith("^"):
        return f"{left}{half} minus "
    return f"{left}{half} {'to' if part_of_more or ascends or half else 'minus'} "


def _strongest_mark(match: re.Match[str]) -> str:
    marks = match[0]
    strongest = next(mark for mark in "?!.:;," if mark in marks)
    following = match.string[match.end() : match.end() + 2]
    trails_off = marks.startswith("..") and following.lstrip()[:1].islower()
    # The comma of "etc., and" is the sentence's, the full stop only the abbreviation's.
    if strongest == "." and (marks in (".,", ".;", ".:") or trails_off):
        strongest = "," if trails_off else marks[1]
    return strongest + ("" if following[:1] in ("", " ", '"', "'") else " ")


def close_up(text: str) -> str:
    text = _LOOSE_HYPHEN.sub(" ", text)
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))
