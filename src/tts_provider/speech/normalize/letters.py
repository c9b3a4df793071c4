"""Single letters: the letter A, which is no article, and Greek ones, which have English names.

In a text that was read, an `A` is the letter and an `a` the article. Only where a text begins with
`A` and a word, it is the article as well: `is_letter_a` tells.
"""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Replacement
from tts_provider.speech.normalize.pattern import as_words

# fmt: off
LETTERED = frozenset("""
    annex answer appendix apt apartment article attachment band bin blk block book bldg box building
    bus category chapter chart choice class clause column concourse config course diagram dock drug
    entrance exhibit exit figure flat flight floor form formula frame gate grade group hall
    hepatitis influenza house item lane layer lemma level line list lot method model module mode
    note option page panel paragraph part path phase plan platform plot point pool priority problem
    question rank rating region room route row scenario schedule seat section sector segment
    sequence series serie set shelf side site size slot solution stage stand step store strain
    stream street subsection suite table team tier terminal theorem track train trial type unit
    variable variant version vitamin vitamins volume wing zone
""".split())  # noqa: SIM905
"""Words that a letter follows as a number would."""
_AFTER_LETTER = (
    "and|or|to|through|is|was|are|as|plus|minus|equals|times|squared|cubed|over|slash|at|underscore"
    "|in|versus|divided|of"
)
_AFTER_NOTE = "major|minor|sharp|flat"
# fmt: on
_CAPITAL = re.compile(r"A(?<![\w'’.-].) (?=([A-Za-z]+))")
_SMALL = re.compile(
    r"a(?<![\w'’-].)(?: (?=(?:equals|squared|cubed|divided) |(?:plus|minus|times) [a-z](?!\w))"
    r"| (?=[b-z](?![\w'’]))|(?=[.,;:!?](?:\s|\Z)|\Z))"
)
_BEFORE = re.compile(r"([A-Za-z]+)[ -]\Z")
_FOLLOWS_LETTER = re.compile(rf"(?:{_AFTER_LETTER}|[A-Z])(?![\w'’-])")
_IS_NUMBER = re.compile(
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[a-z]{4,5}teen|[a-z]{3,5}ty"
    r"|zero)(?![\w'’])"
)
_IS_NOTE = re.compile(rf"(?:{_AFTER_NOTE})(?![\w'’-])")
_ANYTHING = re.compile(r"\w")

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        """
        alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho
        sigma tau upsilon phi chi psi omega
        """.split(),  # noqa: SIM905
        strict=True,
    )
) | {"ς": "sigma", "ϑ": "theta", "ϕ": "phi", "ϵ": "epsilon", "ϖ": "pi", "ϱ": "rho", "µ": "mu"}
_GREEK_LETTER = re.compile(
    r"[Α-Ωα-ωϑϕϵϖϱµ](?<![\u0370-\u03ff\u1f00-\u1fff].)(?![\u0370-\u03ff\u1f00-\u1fff\u0300-\u036f])"
)


_GREEK_WORD = re.compile("[\u0370-\u03ff\u1f00-\u1fff]{2}")


def read_greek(text: MappedText) -> MappedText:
    """A Greek letter among English ones; a Greek text stays."""
    if text.string.isascii() or text.search(_GREEK_WORD):
        return text
    return text.sub(_GREEK_LETTER, _greek)


def _greek(match: re.Match[str]) -> Replacement:
    name = _GREEK.get(match[0].lower())
    return match[0] if name is None else as_words(match, name)


def read_letter_a(text: MappedText) -> MappedText:
    text = text.sub(_CAPITAL, _capital)
    return text.sub(_SMALL, _small)


def is_letter_a(text: str, at: int) -> bool:
    """Whether the `A` at this place is the letter, in a text that was read."""
    match = _CAPITAL.match(text, at)
    return match is None or not _begins(match) or _is_letter(match)


def _capital(match: re.Match[str]) -> str:
    """`Such A Fool` is a title."""
    return match[0] if _begins(match) or _is_letter(match) else "a "


def _small(match: re.Match[str]) -> str:
    is_letter = match[0] == "a " or _begins(match) or _previous(match) in LETTERED
    return match[0].upper() if is_letter else match[0]


def _begins(match: re.Match[str]) -> bool:
    return _ANYTHING.search(match.string, 0, match.start()) is None


def _is_letter(match: re.Match[str]) -> bool:
    previous = _previous(match)
    if (
        previous in LETTERED
        or _IS_NUMBER.fullmatch(previous)
        or previous in ("oh", "an", "the", "letter", "straight")
    ):
        return True
    if _IS_NOTE.match(match.string, match.end()) or _IS_NUMBER.match(match.string, match.end()):
        return bool(previous)
    return _FOLLOWS_LETTER.match(match.string, match.end()) is not None


def _previous(match: re.Match[str]) -> str:
    before = _BEFORE.search(match.string, max(0, match.start() - 24), match.start())
    return before[1].lower() if before else ""
