"""Words in capitals → words in small letters; what stays in capitals is said letter by letter.

`UNITED STATES` are words, `NASA` is "Nasa", `FBI` stays. An engine that has the choice asks
`find_spelled` which words those are, so that it says what `words` shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tts_provider.speech.mapped_text import MappedText, Replacement
from tts_provider.speech.normalize.abbreviations import ABBREVIATIONS_IN_CAPITALS
from tts_provider.speech.normalize.english import acronyms, as_written, is_speakable, is_word
from tts_provider.speech.normalize.roman import NUMERAL

_WORD = re.compile(
    r"[A-Z](?<![^\W_].)(?<![^\W_]['’].)(?:[A-Z]{1,39}(?:['’][A-Z]{1,3})?|(?<=I)['’](?:LL|VE|M|D))(?![^\W_])"
)
_ANY_WORD = re.compile(r"(?<![\w'’])[A-Za-z]{2,40}")
_LETTER = re.compile(r"\w")
_NUMERAL = re.compile(rf"{NUMERAL}\Z")
_BEFORE = re.compile(r"([A-Za-z]+)[ -]\Z")
# fmt: off
# Words too; letters unless the whole line is in capitals.
_ALONE = frozenset("""
    AD AM CAD COD DOE ER ERA ETA HI IT LED MA MS ME OR PA PAR PIN PIP PS RIP SAP SAT SIP US VAT VIA
    WHO
""".split())  # noqa: SIM905
_ALONE -= {"HI", "ME", "OR", "PIN", "PAR", "PIP", "ERA", "VIA", "COD"}
# Letters in such a line too.
_ALWAYS = frozenset("CAD CC ID IDS OK TV UK DJ PC AI EU UN UAE IDE USA".split())  # noqa: SIM905
# Said as words, and in no list.
_SAID = {
    "JSON": "Jason", "COVID": "Covid", "LIDAR": "lidar", "YAML": "yammel", "CAPTCHA": "captcha",
    "UNIX": "Unix", "DOS": "doss", "VAX": "vax", "MAX": "max", "YOW": "yow", "EMACS": "Emacs",
    "LITE": "lite", "ADA": "Ada", "ANN": "Ann", "ASAP": "asap", "BBQ": "barbecue", "GUI": "gooey",
    "SUNY": "sunny", "NERF": "nerf",
}
_MONTHS_AND_DAYS = {
    name.upper(): name
    for name in (
        "March", "May", "August", "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept",
        "Oct", "Nov", "Dec", "Mon", "Tue", "Tues", "Wed", "Thu", "Thur", "Thurs", "Fri", "Sat",
        "Sun",
    )
}
_NAMES = {"GOD": "God", "MARK": "Mark", "JOB": "job", "BILL": "bill", "MR": "Mr", "MRS": "Mrs"}
# fmt: on
_SHORTEST_NAME = 5
"""Letters of an unknown word that may be a name although its line is not in capitals."""


def read_capitals(text: MappedText) -> MappedText:
    if not text.search(_WORD):
        return text
    found = [match[0] for match in _ANY_WORD.finditer(text.string)]
    capital = [word for word in found if word.isupper()]
    small = sum(not word.isupper() for word in found)
    known = sum(is_word(word) and word not in _ALWAYS for word in capital)
    is_loud = len(capital) > max(1, small) and 3 * known >= len(capital)
    return text.sub(_WORD, lambda match: _read(match, is_loud))


def find_spelled(words: str) -> Iterator[tuple[int, int]]:
    """From where to before where words are said letter by letter, in a text that was read."""
    for match in _WORD.finditer(words):
        if _small(match[0], match, is_loud=False) is None:
            yield match.start(), match.start() + len(re.split("['’]", match[0])[0])


def _read(match: re.Match[str], is_loud: bool) -> Replacement:
    small = _small(match[0], match, is_loud=is_loud)
    if small is None:
        letters, mark, end = match[0].partition("'")
        return letters + mark + end.lower()
    is_first = _LETTER.search(match.string, 0, match.start()) is None
    return small[0].upper() + small[1:] if is_first else small


def _small(word: str, match: re.Match[str], *, is_loud: bool) -> str | None:
    """The word as it is written where nobody shouts; None where it is its letters."""
    word = word.replace("’", "'")
    base, mark, end = word.partition("'")
    if word not in _MONTHS_AND_DAYS and mark and (known := as_written(word)):
        return known
    if mark and end in ("S", "LL", "D", "RE", "VE", "M"):
        small = _small(base, match, is_loud=is_loud)
        return None if small is None else f"{small}'{end.lower()}"
    before = _BEFORE.search(match.string, max(0, match.start() - 24), match.start())
    previous = before[1].upper() if before else ""
    if base in _ALWAYS:
        return None
    if is_loud and base in ABBREVIATIONS_IN_CAPITALS:
        return ABBREVIATIONS_IN_CAPITALS[base]
    if base in _ALONE:
        is_noun = previous in ("THE", "OUR", "AN", "A") if is_loud else previous != "I"
        if is_noun:
            return None
    if base in _SAID:
        return _SAID[base]
    if base in _MONTHS_AND_DAYS and (is_loud or len(base) > 3):
        return _MONTHS_AND_DAYS[base]
    if base in _NAMES:
        return _NAMES[base]
    if known := as_written(base):
        return known
    if _NUMERAL.match(base):
        return None
    if base in acronyms():
        return base.capitalize()
    small = base.lower()
    is_long = len(base) >= (_SHORTEST_NAME - 1 if is_loud else _SHORTEST_NAME)
    return base.capitalize() if is_long and is_speakable(small) else None
