"""A speaker for tests of what is around it: a tone for each word, as long as its letters."""

from __future__ import annotations

import re

import numpy as np

from tts_provider.errors import EngineFailed
from tts_provider.jobs.book import Block, Book, Chapter
from tts_provider.jobs.speaker import Speech, TimedWord

_MS = 24


class Tones:
    """Loud or quiet by `level`; counts what it says, and fails from the line `fails_at` on."""

    def __init__(self, level: float = 0.2, fails_at: int | None = None) -> None:
        self.level = level
        self.fails_at = fails_at
        self.said = list[str]()
        self.facts = {"voice": "tones"}

    async def speak(self, text: str) -> Speech:
        if self.fails_at is not None and len(self.said) >= self.fails_at:
            raise EngineFailed("the tones are out of tune")
        self.said.append(text)
        sound, words, position = [np.zeros(100 * _MS, np.float32)], list[TimedWord](), 100 * _MS
        for word in re.finditer(r"\w+", text):
            length = 60 * _MS * len(word[0])
            pitch = 200 + 10 * (sum(word[0].encode()) % 40)
            wave = np.sin(2 * np.pi * pitch * np.arange(length) / 24_000, dtype=np.float32)
            sound += [self.level * wave, np.zeros(40 * _MS, np.float32)]
            words.append(TimedWord(position, position + length, *word.span()))
            position += length + 40 * _MS
        sound.append(np.zeros(300 * _MS, np.float32))
        samples = (np.concatenate(sound) * 32767).round().astype(np.int16)
        return Speech(samples if words else np.zeros(0, np.int16), tuple(words))


def a_book(chapters: int = 3, paragraphs: int = 4) -> Book:
    return Book(
        "The Two Lamps",
        "A. Writer",
        "en",
        tuple(
            Chapter(
                f"Chapter {c}",
                (
                    Block("heading", f"Chapter {c}"),
                    *(
                        Block("paragraph", f"It was night {c} and hour {p}. The lamp burned on.")
                        for p in range(1, paragraphs + 1)
                    ),
                    Block("break"),
                    Block("paragraph", "Then it was day."),
                ),
            )
            for c in range(1, chapters + 1)
        ),
    )
