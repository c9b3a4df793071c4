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

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.speech.engine import Phonemes
from tts_provider.speech.mapped_text import MappedText

LONGEST_ENTRY = 200
MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class Lexicon:
    """Words and how they are said: a respelling, or IPA between slashes."""

    entries: Mapping[str, str] = field(default_factory=dict)
    _lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = sorted({len(word) for word in self.entries}, reverse=True)
        object.__setattr__(self, "_lengths", tuple(lengths))

    def merged(self, other: Lexicon) -> Lexicon:
        """With the other's entries, which come first."""
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
        """Where entries stand as whole words, longest first, none within another."""
        found = list[tuple[int, int, str]]()
        if not self.entries:
            return found
        at = 0
        while at < len(text):
            if text[at].isspace() or not _is_edge(text, at):
                at += 1
                continue
            for length in self._lengths:
                piece = text[at : at + length]
                value = self.entries.get(piece) or self.entries.get(piece.lower())
                if value and len(piece) == length and _is_edge(text, at + length):
                    found.append((at, at + length, value))
                    at += length
                    break
            else:
                at += 1
        return found


def _is_edge(text: str, at: int) -> bool:
    """Whether no word goes on across this place."""
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
    """Those of one request. Raises `InvalidRequest` naming the entry."""
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
    """The dictionaries of a file: everybody's, and those of single voices."""

    def __init__(self, text: str = "", name: str = "lexicon") -> None:
        """Raises `StartupError` naming the line that is wrong."""
        self._sections: dict[str, dict[str, str]] = {"": {}}
        section = ""
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line[0] == "[" and line[-1] == "]" and "=" not in line:
                section = line[1:-1].strip()
                self._sections.setdefault(section, {})
                continue
            word, separator, value = (part.strip() for part in line.partition("="))
            wrong = check_entry(word, value)
            if wrong or not separator:
                raise StartupError(f"{name} line {number}: {wrong}; got {line[:60]!r}")
            self._sections[section][word] = value

    def for_voice(self, voice_id: str) -> Lexicon:
        own = self._sections.get(voice_id, {})
        return Lexicon({**self._sections[""], **own})


def load_lexicon(path: Path) -> LexiconFile:
    """Raises `StartupError` where it cannot be read or a line is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise StartupError(f"cannot read the lexicon {path}: {reason}") from None
    return LexiconFile(text, str(path))
