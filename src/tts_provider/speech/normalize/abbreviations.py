"""Abbreviations → words, with or without their full stop."""

from __future__ import annotations

import re

from tts_provider.speech.abbreviations import SENTENCE_STARTS
from tts_provider.speech.mapped_text import MappedText, Replacement
from tts_provider.speech.normalize.pattern import LETTER, any_of, as_words, full_stop

# fmt: off
# With or without their full stop.
_ABBREVIATIONS = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Misses", "Ms": "Miz", "Prof": "Professor",
    "vs": "versus", "approx": "approximately", "e.g": "for example", "E.g": "For example",
    "i.e": "that is", "I.e": "That is", "a.k.a": "also known as",
}
_DOTTED_ABBREVIATIONS = {
    "Gen": "General", "Messrs": "Messieurs", "Mme": "Madame", "Mlle": "Mademoiselle",
    "Hon": "Honorable",
    "Rep": "Representative", "Pres": "President", "Adm": "Admiral", "Col": "Colonel",
    "Maj": "Major",
    "Cpl": "Corporal", "Cmdr": "Commander", "ext": "extension", "Univ": "University",
    "Sen": "Senator", "Gov": "Governor", "Capt": "Captain", "Lt": "Lieutenant",
    "Sgt": "Sergeant", "Rev": "Reverend", "Mt": "Mount", "Ft": "Fort", "Dept": "Department",
}
# These may end a sentence, and then their full stop is the sentence's too.
_FINAL_ABBREVIATIONS = {
    "etc": "et cetera", "Inc": "Incorporated", "Ltd": "Limited", "Jr": "Junior", "Sr": "Senior",
}
_DOTTED_FINAL_ABBREVIATIONS = {
    "Corp": "Corporation", "Bros": "Brothers", "Assn": "Association", "Co": "Company",
    "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "St": "Street",
}
_BEFORE_NUMBERS = {
    "No": "number", "Nos": "numbers", "no": "number", "nos": "numbers",
    "Fig": "figure", "fig": "figure", "Figs": "figures", "figs": "figures", "Eq": "equation",
    "eq": "equation", "Eqs": "equations", "eqs": "equations", "Sec": "section", "sec": "section",
    "Secs": "sections", "secs": "sections", "Chs": "chapters", "chs": "chapters", "ch": "chapter",
    "Tab": "table", "Vols": "volumes", "vols": "volumes", "Vol": "volume",
    "vol": "volume", "Ch": "chapter", "p": "page", "pp": "pages", "ca": "circa",
}
# fmt: on
_FINAL = _FINAL_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS
_ALL_ABBREVIATIONS = _ABBREVIATIONS | _DOTTED_ABBREVIATIONS | _FINAL

ABBREVIATIONS_IN_CAPITALS = {
    short.upper(): short
    for short in _ALL_ABBREVIATIONS
    if "." not in short and short not in ("Co", "Col", "Hon", "Rep", "Pres", "St", "ext", "Gen")
}

_ABBREVIATION = re.compile(
    rf"(?<!{LETTER})(?:({any_of(_ABBREVIATIONS | _FINAL_ABBREVIATIONS)})(?:(\.)|(?!{LETTER}))"
    rf"|({any_of(_DOTTED_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS)})(\.))"
)
_MAY_BE_SHORT = re.compile(any_of(_ALL_ABBREVIATIONS))
# Not the watts of "5 W/m²".
_WITH = re.compile(
    r"(?<![\w/])(?<![0-9] )(?:[Ww]/(?P<out>o)?(?:(?<=o)(?!\w)| (?=\w))|w/(?=[a-z0-9]{2}))"
)
_NAME_BEFORE = re.compile(r"(?<![\w.])([A-Z][\w'’]*|[0-9]+(?:st|nd|rd|th)) \Z")
_GREETINGS = frozenset(("dear", "hello", "hi", "hey", "thanks", "sorry", "good", "oh", "well"))
_BEFORE_NUMBER = re.compile(rf"(?<!{LETTER})({any_of(_BEFORE_NUMBERS)})\. ?(?=[0-9])")
_DIGIT = re.compile("[0-9]")
_HASH_NUMBER = re.compile(r"#(?=[0-9])")
_PARTIES = re.compile(r"v(?<=[\w.)] .)\.?(?<![0-9] v)(?= [A-Z][a-z])")
_VERSION = re.compile(rf"v(?<!{LETTER}.)\.? ?(?=[0-9])")


def expand_abbreviations(text: MappedText) -> MappedText:
    if text.search(_DIGIT):
        text = text.sub(_BEFORE_NUMBER, lambda match: as_words(match, _BEFORE_NUMBERS[match[1]]))
        text = text.sub(_HASH_NUMBER, lambda match: as_words(match, "number"))
        text = text.sub(_VERSION, lambda match: as_words(match, "version"))
    if "/" in text:
        text = text.sub(_WITH, _with)
    text = text.sub(_PARTIES, "versus")
    return text.sub(_ABBREVIATION, _expanded) if text.search(_MAY_BE_SHORT) else text


def _with(match: re.Match[str]) -> Replacement:
    """`w/ milk`, `w/o sugar`."""
    words = "without" if match["out"] else "with"
    return as_words(match, words.capitalize() if match[0][0] == "W" else words)


def _street_or_title(match: re.Match[str], short: str, after: str) -> str:
    """ "Elm Dr. near St. Mark's St.": who has a name behind him is a doctor or a saint."""
    street, title = {"St": ("Street", "Saint"), "Dr": ("Drive", "Doctor")}[short]
    before = _NAME_BEFORE.search(match.string, max(0, match.start() - 24), match.start())
    named = after[:1] == " " and after[1:].isupper()
    is_name = before is not None and before[1].lower() not in _GREETINGS | SENTENCE_STARTS
    if before is not None and before[1][0].isdigit() and not named:
        is_name = True
    if short == "Dr" and not is_name:
        return title
    if named and not (before is not None and before[1][0].isdigit()):
        return title
    return street + (full_stop(match) if match[2] or match[4] else "")


def _expanded(match: re.Match[str]) -> Replacement:
    short, dot = match[1] or match[3], match[2] or match[4]
    after = match.string[match.end() : match.end() + 2]
    words = _ALL_ABBREVIATIONS[short]
    if short in ("St", "Dr"):
        return as_words(match, _street_or_title(match, short, after))
    if dot and short in _FINAL:
        words += full_stop(match)
    return as_words(match, words)
