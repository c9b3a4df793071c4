"""What the patterns share: pieces of them, and how words take the place of a match."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tts_provider.speech.mapped_text import Part, Replacement

LETTER = r"[^\W\d_]"
CURRENCY = r"[$£€¥₹]"


def number_not_after(*behind: str) -> str:
    """A pattern of digits with dots and commas between them, behind none of these.

    It starts at the first digit of a run only, which keeps a failing match from being tried n
    times. What stands before is looked at after the digit, here and in the other patterns: `re`
    skips quickly to where one can begin if it begins with a character.
    """
    looks = "".join(f"(?<!{before}[0-9])" for before in ("[0-9]", "[0-9][.,]", *behind))
    return rf"[0-9]{looks}[0-9]*(?:[.,][0-9]+)*"


NUMBER = number_not_after()


def any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def as_words(match: re.Match[str], *words: str | Part) -> Replacement:
    """The words, with a space on each side where the neighbor would stick to them.

    A string alone stands for all that matched; of several, each `part` stands for its own group,
    and a string for what is between its neighbors.
    """
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    left = "" if not before or before in " \"'-" else " "
    sticks = after in ".,;:!?" and text[end + 1 : end + 2].isalnum()
    right = "" if not after or (after in " \"'-.,;:!?" and not sticks) else " "
    if len(words) == 1 and isinstance(words[0], str):
        return f"{left}{words[0]}{right}"
    return left, *words, right


def full_stop(match: re.Match[str]) -> str:
    """The full stop of an abbreviation that ends its sentence, as far as one can see."""
    after = match.string[match.end() : match.end() + 2]
    ends = not after or after[0] in "\"'" or (after[0] == " " and after[1:].isupper())
    return "." if ends else ""
