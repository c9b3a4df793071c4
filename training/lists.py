"""What the model learns from: lists of words in two voices, alone, after a voice's prompt and after
other turns of a conversation. Everything is drawn anew for each step."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from codec import PAUSED
from tokenizer import BEGIN, END, make_tokenizer
from words import UNKNOWN, WORDS

NO_TOKEN = -1
# A prompt's frames of 80 ms: 2 to 20 s, and never more than 20.8.
_PROMPT_FRAMES, _MOST_FRAMES = (25, 250), 260


@dataclass(frozen=True)
class Recording:
    """Somebody reading as people do, cut into frames anywhere."""

    text: str
    codes: np.ndarray  # (frames, codebooks)


@dataclass(frozen=True)
class Take:
    """One reader at one pitch and loudness: lists of words, and sentences of any others."""

    lists: list[Recording]
    sentences: list[Recording]


@dataclass(frozen=True)
class Speech:
    """The codes of each word of both voices, and what a voice prompt may sound like."""

    words: dict[tuple[str, int], np.ndarray]  # (frames, codebooks)
    silence: np.ndarray  # (codebooks,)
    takes: dict[int, list[Take]]


@dataclass(frozen=True)
class Example:
    """Where `tokens` is `NO_TOKEN`, the codes count. The model learns to say what is `learned`."""

    tokens: np.ndarray  # (positions,)
    codes: np.ndarray  # (positions, codebooks)
    learned: np.ndarray  # (positions,) bool


class Lists:
    def __init__(
        self, speech: Speech, seed: int, kinds: tuple[float, ...] = (0.55, 0.2, 0.15, 0.1)
    ) -> None:
        """`kinds` is how often each kind of `_example` is drawn."""
        self._speech, self._kinds = speech, kinds
        self._random = np.random.default_rng(seed)
        self._ids = make_tokenizer().get_vocab()

    def batch(self, positions: int, progress: float) -> list[Example]:
        """Examples of one kind, `positions` long together; the first ones are short."""
        most = 3 if progress < 0.08 else 8
        kind = self._random.choice(4, p=self._kinds) if progress > 0.25 else 0
        examples: list[Example] = []
        while sum(len(example.tokens) for example in examples) < positions:
            examples.append(self._example(int(kind), most))
        return examples

    def _example(self, kind: int, most: int) -> Example:
        """0 is alone, 1 after a voice's prompt, 2 after other turns, 3 after both."""
        speaker = int(self._random.integers(2))
        voices = {0: 0, 1: 1}
        parts = []
        if kind in (1, 3):
            voices[speaker] = int(self._random.integers(2))
            parts += self._prompt(speaker, voices[speaker])
        if kind in (2, 3):
            for _ in range(self._random.integers(1, 5)):
                turn = int(self._random.integers(2))
                parts += self._turn(turn, voices[turn], self._random.integers(1, 5))
        parts += self._turn(speaker, voices[speaker], self._random.integers(1, most + 1))
        return Example(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _prompt(self, speaker: int, voice: int) -> list[tuple[np.ndarray, ...]]:
        """Recordings of one take, one after another, up to a length that is drawn."""
        random, takes = self._random, self._speech.takes[voice]
        take = takes[random.integers(len(takes))]
        pool = (take.lists, take.sentences)[random.integers(2)]
        wanted = random.integers(*_PROMPT_FRAMES)
        words: list[str] = []
        codes = np.zeros((0, len(self._speech.silence)), np.int64)
        while len(codes) < wanted:
            recording = pool[random.integers(len(pool))]
            if words and len(codes) + len(recording.codes) > _MOST_FRAMES:
                break
            words += re.findall(r"\w+", recording.text.lower())
            codes = np.concatenate((codes, recording.codes))
        known = [word if word in WORDS else UNKNOWN for word in words]
        return [self._text(speaker, known), self._audio(codes, learned=False)]

    def _turn(self, speaker: int, voice: int, count: int) -> list[tuple[np.ndarray, ...]]:
        """Words, two frames of silence between them, one after the last."""
        random = self._random
        pool = WORDS[:10] if random.random() < 0.3 else WORDS
        text = list(map(str, random.choice(pool, count, replace=random.random() < 0.2)))
        paused = self._speech.silence.copy()
        paused[0] = PAUSED
        pause = np.stack((self._speech.silence, paused))
        frames = [part for word in text for part in (self._speech.words[word, voice], pause)]
        codes = np.concatenate(frames)[:-1]
        return [self._text(speaker, text), self._audio(codes, learned=True)]

    def _text(self, speaker: int, text: list[str]) -> tuple[np.ndarray, ...]:
        tokens = [self._ids[t] for t in (BEGIN, "[", str(speaker), "]", *text, END)]
        codes = np.zeros((len(tokens), len(self._speech.silence)), np.int64)
        return np.array(tokens), codes, np.zeros(len(tokens), bool)

    def _audio(self, codes: np.ndarray, *, learned: bool) -> tuple[np.ndarray, ...]:
        """The frames and the one of zeros that ends them."""
        codes = np.concatenate((codes, np.zeros((1, codes.shape[1]), np.int64)))
        return np.full(len(codes), NO_TOKEN), codes, np.full(len(codes), learned)
