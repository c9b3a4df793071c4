"""English text → the words a speech model reads well: no digits, no symbols, no markup.

The passes run in one order, and two rules make the result a fixed point of them all:

1. What vanishes (markup, brackets, stray dashes) vanishes before anything becomes words, so no
   later deletion can join two pieces into something an earlier pass would have read.
2. What becomes words is set apart from its neighbours (`as_words`), and no word we write is
   itself something to read.

Every pattern takes linear time: it either consumes what it scans, or starts only where a run of
its characters starts. Digits other than 0-9 are left to the model, like words of any language.
"""

from __future__ import annotations

from collections.abc import Callable

from tts_provider.speech.normalize.abbreviations import expand_abbreviations
from tts_provider.speech.normalize.addresses import read_addresses, read_telephones
from tts_provider.speech.normalize.dates import read_dates, read_decades, read_times, read_years
from tts_provider.speech.normalize.markup import (
    close_up,
    drop_markup,
    join_lines,
    plain_characters,
    tidy_punctuation,
)
from tts_provider.speech.normalize.numbers import read_numbers, read_ordinals
from tts_provider.speech.normalize.quantities import read_fractions, read_money, read_units
from tts_provider.speech.normalize.symbols import read_powers, read_ranges, read_signs, read_symbols

__all__ = ["STEPS", "normalize"]

STEPS: tuple[Callable[[str], str], ...] = (
    plain_characters,
    join_lines,
    drop_markup,
    read_addresses,
    read_telephones,
    tidy_punctuation,
    expand_abbreviations,
    read_signs,
    read_dates,
    read_ranges,
    read_times,
    read_money,
    read_fractions,
    read_powers,
    read_decades,
    read_units,
    read_years,
    read_ordinals,
    read_numbers,
    read_symbols,
    close_up,
)


def normalize(text: str) -> str:
    """Return the English text as words and plain punctuation, on one line.

    `normalize(normalize(text)) == normalize(text)`, and no digit 0-9 is left. Nothing is refused;
    a text without anything to say becomes the empty string.
    """
    for step in STEPS:
        text = step(text)
    return text
