"""Places in the Bible → words: `1 John 3:8` is "First John three verse eight"."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal
from tts_provider.speech.normalize.pattern import any_of, as_words

# fmt: off
_BOOKS = """
    Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Ruth Ezra Nehemiah Esther Job Psalm
    Psalms
    Proverbs Ecclesiastes Isaiah Jeremiah Lamentations Ezekiel Daniel Hosea Joel Amos Obadiah Jonah
    Micah Nahum Habakkuk Zephaniah Haggai Zechariah Malachi Matthew Mark Luke John Acts Romans
    Galatians Ephesians Philippians Colossians Titus Philemon Hebrews James Jude Revelation Samuel
    Kings Chronicles Corinthians Thessalonians Timothy Peter Maccabees Sirach Tobit Judith Wisdom
    Baruch Song_of_Solomon Song_of_Songs
""".split()  # noqa: SIM905
_SHORT = {
    "Gen": "Genesis", "Ex": "Exodus", "Exod": "Exodus", "Lev": "Leviticus", "Num": "Numbers",
    "Deut": "Deuteronomy", "Josh": "Joshua", "Judg": "Judges", "Neh": "Nehemiah", "Ps": "Psalm",
    "Prov": "Proverbs", "Eccl": "Ecclesiastes", "Isa": "Isaiah", "Jer": "Jeremiah",
    "Ezek": "Ezekiel", "Dan": "Daniel", "Matt": "Matthew", "Mt": "Matthew", "Mk": "Mark",
    "Lk": "Luke", "Jn": "John", "Rom": "Romans", "Cor": "Corinthians", "Gal": "Galatians",
    "Eph": "Ephesians", "Phil": "Philippians", "Col": "Colossians", "Thess": "Thessalonians",
    "Tim": "Timothy", "Heb": "Hebrews", "Jas": "James", "Pet": "Peter", "Rev": "Revelation",
    "Sam": "Samuel", "Chr": "Chronicles", "Chron": "Chronicles",
}
# fmt: on
_NUMBERED = (
    "Samuel|Sam|Kings|Chronicles|Chron|Chr|Corinthians|Cor|Thessalonians|Thess|Timothy|Tim|Peter|Pet|John|Jn"
    "|Maccabees"
)
_ORDINALS = {"1": "First", "2": "Second", "3": "Third"}
_VERSES = (
    r"(?P<chapter>[0-9]{1,3}):(?P<verse>[0-9]{1,3})(?P<half>[a-c])?"
    r"(?:[-–](?P<last>[0-9]{1,3}))?(?![\w:]|[.,][0-9]| ?[AaPp]\.?[Mm]\b)"
)
_BOOK = any_of([*(book.replace("_", " ") for book in _BOOKS), *_SHORT])
_REFERENCE = re.compile(rf"(?<![\w.,])(?:(?P<number>[1-3]) )?(?P<book>{_BOOK})\.? {_VERSES}")
_CHAPTER = re.compile(
    rf"(?<![\w.,])(?P<number>[1-3]) (?P<book>{_NUMBERED})\.?(?= [0-9]{{1,3}}(?![\w:]))"
)


def read_references(text: MappedText) -> MappedText:
    return text.sub(_REFERENCE, _reference).sub(_CHAPTER, _chapter)


def _chapter(match: re.Match[str]) -> Replacement:
    return part(match, "number", _ORDINALS[match["number"]]), " ", _book(match)


def _reference(match: re.Match[str]) -> Replacement:
    words: list[str | Part] = []
    if match["number"]:
        words += [part(match, "number", _ORDINALS[match["number"]]), " "]
    words += [
        _book(match),
        " ",
        part(match, "chapter", cardinal(match["chapter"].lstrip("0") or "0")),
    ]
    words += [" verses " if match["last"] else " verse "]
    verse = cardinal(match["verse"].lstrip("0") or "0")
    words += [part(match, "verse", verse)]
    if match["half"]:
        words += [" ", part(match, "half", match["half"].upper())]
    if match["last"]:
        words += [" to ", part(match, "last", cardinal(match["last"].lstrip("0") or "0"))]
    return as_words(match, *words)


def _book(match: re.Match[str]) -> Part:
    return part(match, "book", _SHORT.get(match["book"], match["book"]))
