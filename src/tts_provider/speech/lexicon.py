"""A pronunciation dictionary: how words are to be said, as other words or as phonemes.

    # a comment
    NVIDIA = en vidia
    sql = sequel
    nike = /ˈnaɪki/
    [heart]
    data = dahta

What stands below `[heart]` is for the voice of that id. A word in small letters is found whatever
its case; one with capitals only as it is written. The longest wins.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.speech.engine import Phonemes
from tts_provider.speech.mapped_text import MappedText

LONGEST_ENTRY = 200
MOST_ENTRIES = 10_000
_ENTRY_BYTES = 100  # beside its strings


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations: a respelling, or IPA between slashes."""

    entries: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def size_bytes(self) -> int:
        """How much memory it takes."""
        strings = (sys.getsizeof(word) + sys.getsizeof(how) for word, how in self.entries.items())
        return sum(strings) + _ENTRY_BYTES * len(self.entries)

    def merged(self, other: Lexicon) -> Lexicon:
        """A lexicon with the entries of both; the other's take precedence."""
        if not other.entries:
            return self
        return Lexicon({**self.entries, **other.entries})

    def respell(self, text: MappedText) -> MappedText:
        found = self._find(text.string)
        return text.splice((a, b, value) for a, b, value in found if not is_ipa(value))

    def find_phonemes(self, text: str) -> tuple[Phonemes, ...]:
        return tuple(
            Phonemes(start, end, value[1:-1])
            for start, end, value in self._find(text)
            if is_ipa(value)
        )

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        """Find where entries occur as whole words: the longest first, none within another."""
        found = list[tuple[int, int, str]]()
        if not self.entries:
            return found
        index, small = self._index, _small(text)
        at = 0
        while at < len(text):
            if text[at].isspace() or not _is_edge(text, at):
                at += 1
                continue
            written = text[at : at + index.longest]
            word = index.find(written, text, at)
            if small is not text:
                in_small = index.find(small[at : at + index.longest], text, at)
                word = max(word, in_small, key=len)  # of two as long the one as it is written
            if word:
                found.append((at, at + len(word), self.entries[word]))
            at += len(word) or 1
        return found

    @cached_property
    def _index(self) -> _Index:
        return _Index(self.entries)


class _Index:
    """Finds the longest word that a text begins with, in a time that hardly depends on the number
    of words. A look-up for each length would be slow: with 200 lengths, 20 000 characters take
    seconds."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = sorted(words)
        self.longest = max(map(len, self._words), default=0)
        # Of each word, the longest other one that it begins with: it stands before it, and all
        # between the two begin with it as well.
        self._within = list[int]()
        open_ = list[int]()
        for number, word in enumerate(self._words):
            while open_ and not word.startswith(self._words[open_[-1]]):
                open_.pop()
            self._within.append(open_[-1] if open_ else -1)
            open_.append(number)

    def find(self, beginning: str, text: str, at: int) -> str:
        """The longest word that `beginning`, which is at `at` in `text`, begins with and that ends
        where no word goes on; or nothing."""
        number = bisect_right(self._words, beginning) - 1
        while number >= 0:
            word = self._words[number]
            if beginning.startswith(word) and _is_edge(text, at + len(word)):
                return word
            number = self._within[number]
        return ""


def _small(text: str) -> str:
    """Convert to small letters and keep the number of characters: "İ" would become two."""
    small = text.lower()
    if len(small) != len(text):
        small = "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
    return text if small == text else small


def _is_edge(text: str, at: int) -> bool:
    """Whether no word continues across this place."""
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    return not ((before.isalnum() or before == "_") and (after.isalnum() or after == "_"))


def is_ipa(value: str) -> bool:
    return len(value) > 2 and value[0] == value[-1] == "/"


def check_entry(word: str, value: str) -> str | None:
    """What is wrong with an entry, or None."""
    if not word or not value:
        return "expected WORD = HOW IT IS SAID"
    if max(len(word), len(value)) > LONGEST_ENTRY:
        return f"a word and how it is said may have {LONGEST_ENTRY} characters each"
    if not any(map(str.isalpha, value)):
        return "how it is said must have letters"
    if not (word + value).isprintable():
        return "there is a character that cannot be printed"
    return None


def read_pronunciations(entries: Mapping[str, object]) -> Lexicon:
    """Read the pronunciations of one request. Raises `InvalidRequest` naming the wrong entry."""
    if len(entries) > MOST_ENTRIES:
        raise InvalidRequest(
            f"pronunciations may have {MOST_ENTRIES} entries; got {len(entries)}",
            param="pronunciations",
        )
    checked = dict[str, str]()
    for word, value in entries.items():
        wrong = (
            check_entry(word.strip(), value.strip())
            if isinstance(value, str)
            else "how it is said must be a string"
        )
        if wrong or not isinstance(value, str):
            raise InvalidRequest(
                f"pronunciations: {word[:40]!r}: {wrong}",
                code="invalid_pronunciation",
                param="pronunciations",
            )
        checked[word.strip()] = value.strip()
    return Lexicon(checked)


class LexiconFile:
    """The dictionaries of a file: one for all voices, and those of single voices."""

    def __init__(self, text: str = "", name: str = "lexicon") -> None:
        """Raises `StartupError` naming the line that is wrong."""
        sections: dict[str, dict[str, str]] = {"": {}}
        section = ""
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line[0] == "[" and line[-1] == "]" and "=" not in line:
                section = line[1:-1].strip()
                sections.setdefault(section, {})
                continue
            word, separator, value = (part.strip() for part in line.partition("="))
            wrong = check_entry(word, value)
            if wrong or not separator:
                raise StartupError(f"{name} line {number}: {wrong}; got {line[:60]!r}")
            sections[section][word] = value
        everybodys = Lexicon(sections[""])
        self._of = {name: everybodys.merged(Lexicon(own)) for name, own in sections.items()}

    def for_voice(self, voice_id: str) -> Lexicon:
        return self._of.get(voice_id) or self._of[""]


def load_lexicon(path: Path) -> LexiconFile:
    """Read a lexicon file. Raises `StartupError` if it cannot be read or a line is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise StartupError(f"cannot read the lexicon {path}: {reason}") from None
    return LexiconFile(text, str(path))
