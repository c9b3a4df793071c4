"""English text → the words a speech model reads well: no digits, no symbols.

The passes run in one order, and two rules make the result a fixed point of them all:

1. What vanishes (marks, brackets, stray dashes) vanishes before anything becomes words, so no
   later deletion can join two pieces into something an earlier pass would have read.
2. What becomes words is set apart from its neighbors (`as_words`), and no word we write is
   itself something to read.

A step takes a `MappedText` text and returns it with its own edits, or as it is. It edits by
`text.sub(pattern, replacement)`, as `pattern.sub` does, and in no other way than by the methods of
`MappedText`, so that every word that is said knows what was written for it:

* A replacement that is a string stands for all that matched: "twenty-four seven" for `24/7`.
* One that is written in several words gives each `part` its own, `part(match, "day", "fifth")`;
  strings among them stand for what is between. Parts may come in another order than they are
  written.
* An edit that is no `sub` is a `splice` of the stretches that change.

Every pattern takes linear time: it either consumes what it scans, or starts only where a run of
its characters starts, or looks at a bounded piece. Digits other than 0-9 are left to the model,
like words of any language. docs/text.md says which reading each kind has.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize.abbreviations import expand_abbreviations
from tts_provider.speech.normalize.addresses import read_addresses
from tts_provider.speech.normalize.calendar import read_calendar
from tts_provider.speech.normalize.capitals import read_capitals
from tts_provider.speech.normalize.characters import plain_characters
from tts_provider.speech.normalize.dates import read_dates
from tts_provider.speech.normalize.fractions import read_fractions
from tts_provider.speech.normalize.identifiers import read_hidden_names, read_identifiers
from tts_provider.speech.normalize.interjections import read_interjections
from tts_provider.speech.normalize.letters import read_greek, read_letter_a
from tts_provider.speech.normalize.lines import join_lines
from tts_provider.speech.normalize.mathematics import read_mathematics
from tts_provider.speech.normalize.money import read_money, read_price_ranges
from tts_provider.speech.normalize.numbers import join_groups, read_numbers, read_ordinals
from tts_provider.speech.normalize.places import read_places
from tts_provider.speech.normalize.punctuation import close_up, drop_marks, tidy_punctuation
from tts_provider.speech.normalize.references import read_references
from tts_provider.speech.normalize.roman import read_roman
from tts_provider.speech.normalize.say_as import SAY_AS, say_as
from tts_provider.speech.normalize.symbols import (
    read_powers,
    read_ranges,
    read_signs,
    read_symbols,
)
from tts_provider.speech.normalize.telephones import read_telephones
from tts_provider.speech.normalize.times import read_amounts, read_offsets, read_times, read_zones
from tts_provider.speech.normalize.units import read_compounds, read_feet, read_units
from tts_provider.speech.normalize.years import read_decades, read_years

__all__ = ["DIGIT_STEPS", "SAY_AS", "STEPS", "normalize", "say_as"]

_SHORT = 16  # characters

_Step = tuple[Callable[[MappedText], MappedText], re.Pattern[str] | None]

_DIGIT = re.compile("[0-9]")
_MARK_OF_ADDRESS = re.compile(r"[/@#~:\\]|\.\w")
_HOST = re.compile(r"\.\w")
_PLACE = re.compile("[0-9]|, [A-Z]")
_VERSE = re.compile("[0-9]:[0-9]|[123] [A-Z]")
_CUT = re.compile(r"-[ \t]*\n")
_CALENDAR = re.compile(
    "[A-Z]{3} ?[-–/&]|Mon|Tue|Wed|Thu|Fri|S[aue]|Jan|Feb|Ma[ry]|A[pu]|Ju|Oct|Nov|Dec"
)
_MATHEMATICS = re.compile("[-xX/]")
_FEET = re.compile("[0-9]'")
_CAPITALS = re.compile("[A-Z]{2}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SOUND = re.compile("(?i:shh|pss?t|mph|tsk|rr|zzz|pff)")
_LETTER_A = re.compile(r"(?i:a(?![^\W_]))")
_NUMERAL = re.compile(r"(?:\s|\A)(?:[IVXLCDM]+(?![A-Za-z])|[ivx]{2})")

DIGIT_STEPS = (
    read_identifiers,
    read_amounts,
    read_price_ranges,
    read_offsets,
    read_dates,
    read_decades,
    read_zones,
    read_compounds,
    read_signs,
    read_ranges,
    read_times,
    read_money,
    read_fractions,
    read_units,
    read_powers,
    read_years,
    read_ordinals,
    read_numbers,
)


def _read_digits(text: MappedText) -> MappedText:
    for step in DIGIT_STEPS:
        text = step(text)
        if not text.search(_DIGIT):
            break
    return text


STEPS: tuple[_Step, ...] = (
    (join_lines, _CUT),
    (read_calendar, _CALENDAR),
    (plain_characters, None),
    (read_mathematics, _MATHEMATICS),
    (drop_marks, None),
    (read_feet, _FEET),
    (read_hidden_names, _HOST),
    (join_groups, re.compile("[0-9\u202f]")),
    (read_addresses, _MARK_OF_ADDRESS),
    (read_references, _VERSE),
    (read_telephones, _DIGIT),
    (tidy_punctuation, None),
    (read_places, _PLACE),
    (read_capitals, _CAPITALS),
    (expand_abbreviations, None),
    (read_roman, _NUMERAL),
    (_read_digits, _DIGIT),
    (read_symbols, None),
    (read_greek, _NOT_ASCII),
    (read_interjections, _SOUND),
    # What the passes before have uncovered, so that a second reading finds no more.
    (read_calendar, _CALENDAR),
    (read_mathematics, _MATHEMATICS),
    (read_hidden_names, _HOST),
    (read_capitals, _CAPITALS),
    (expand_abbreviations, None),
    (read_places, _PLACE),
    (read_roman, _NUMERAL),
    (read_addresses, _MARK_OF_ADDRESS),
    (close_up, None),
    (read_letter_a, _LETTER_A),
)
"""Each with what a text must have for it to find anything."""


def normalize(text: MappedText) -> MappedText:
    """Return the English text as words and plain punctuation, on one line.

    A second time changes nothing, and no digit 0-9 is left. Nothing is refused; a text without
    anything to say becomes the empty string.
    """
    if len(text) <= _SHORT and text.is_as_written:
        return _normalize_short(text.string)
    return _take_steps(text)


@functools.lru_cache(maxsize=1024)
def _normalize_short(text: str) -> MappedText:
    """Short passages come again and again, and each costs nearly what a sentence does: 20 000
    characters may have thousands."""
    return _take_steps(MappedText(text))


def _take_steps(text: MappedText) -> MappedText:
    for step, needs in STEPS:
        if needs is None or text.search(needs):
            text = step(text)
    return text
