"""Abbreviations → words, with or without the full stop that is theirs."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.pattern import LETTER, any_of, as_words, full_stop

# fmt: off
# With or without their full stop.
_ABBREVIATIONS = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Misses", "Ms": "Miz", "Prof": "Professor",
    "vs": "versus", "approx": "approximately", "e.g": "for example", "E.g": "For example",
    "i.e": "that is", "I.e": "That is", "a.k.a": "also known as",
}
_DOTTED_ABBREVIATIONS = {
    "Gen": "General", "Sen": "Senator", "Gov": "Governor", "Capt": "Captain", "Lt": "Lieutenant",
    "Sgt": "Sergeant", "Rev": "Reverend", "Mt": "Mount", "Ft": "Fort", "Dept": "Department",
}
# These may end a sentence, and then their full stop is the sentence's too.
_FINAL_ABBREVIATIONS = {
    "etc": "et cetera", "Inc": "Incorporated", "Ltd": "Limited", "Jr": "Junior", "Sr": "Senior",
}
_DOTTED_FINAL_ABBREVIATIONS = {
    "Corp": "Corporation", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "St": "Street",
}
_BEFORE_NUMBERS = {
    "No": "number", "Nos": "numbers", "Fig": "figure", "fig": "figure", "Vol": "volume",
    "vol": "volume", "Ch": "chapter", "p": "page", "pp": "pages", "ca": "circa",
}
# fmt: on
_FINAL = _FINAL_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS
_ALL_ABBREVIATIONS = _ABBREVIATIONS | _DOTTED_ABBREVIATIONS | _FINAL

_ABBREVIATION = re.compile(
    rf"(?<!{LETTER})(?:({any_of(_ABBREVIATIONS | _FINAL_ABBREVIATIONS)})(?:(\.)|(?!{LETTER}))"
    rf"|({any_of(_DOTTED_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS)})(\.))"
)
_BEFORE_NUMBER = re.compile(rf"(?<!{LETTER})({any_of(_BEFORE_NUMBERS)})\. ?(?=[0-9])")
_HASH_NUMBER = re.compile(r"#(?=[0-9])")
_VERSION = re.compile(rf"(?<!{LETTER})v\.? ?(?=[0-9])")


def expand_abbreviations(text: str) -> str:
    text = _BEFORE_NUMBER.sub(lambda match: as_words(match, _BEFORE_NUMBERS[match[1]]), text)
    text = _HASH_NUMBER.sub(lambda match: as_words(match, "number"), text)
    text = _VERSION.sub(lambda match: as_words(match, "version"), text)
    return _ABBREVIATION.sub(_expanded, text)


def _expanded(match: re.Match[str]) -> str:
    short, dot = match[1] or match[3], match[2] or match[4]
    after = match.string[match.end() : match.end() + 2]
    words = _ALL_ABBREVIATIONS[short]
    if short == "St" and after[:1] == " " and after[1:].isupper():
        words, dot = "Saint", None
    if dot and short in _FINAL:
        words += full_stop(match)
    return as_words(match, words)
