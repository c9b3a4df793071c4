"""The result of a phonemizer: phonemes, and the word that each belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

_MARKS = ".!?…,;:—"


@dataclass(frozen=True)
class PronouncedWord:
    """A word of the text from character `start` to before `end`, and its phonemes."""

    start: int
    end: int
    first: int
    """Phonemes from `first` to before `last`."""
    last: int


@dataclass(frozen=True)
class Pronunciation:
    phonemes: str
    """Spaces and punctuation among them."""
    words: tuple[PronouncedWord, ...]

    def parts(self, most_phonemes: int) -> Iterator[Pronunciation]:
        """Parts that a graph can speak: cut behind a mark where there is one, else between
        words."""
        phonemes, begun = self.phonemes, 0
        while begun < len(phonemes):
            end = min(len(phonemes), begun + most_phonemes)
            if end < len(phonemes):
                spaces = [at for at in range(begun + 1, end) if phonemes[at] == " "]
                marked = [at for at in spaces if phonemes[at - 1] in _MARKS]
                end = max(marked or spaces or [end])
            words = tuple(
                replace(word, first=word.first - begun, last=min(word.last, end) - begun)
                for word in self.words
                if begun <= word.first < end
            )
            yield Pronunciation(phonemes[begun:end].strip(), words)
            begun = end
            while begun < len(phonemes) and phonemes[begun] == " ":
                begun += 1
