"""What the model learns from: lists of words in two voices, alone, after a voice's prompt and after
other turns of a conversation. Everything is drawn anew for each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codec import PAUSED
from tokenizer import BEGIN, END, make_tokenizer
from words import WORDS

NO_TOKEN = -1


@dataclass(frozen=True)
class Recording:
    """Somebody reading as people do, cut into frames anywhere."""

    words: tuple[str, ...]
    codes: np.ndarray  # (frames, codebooks)


@dataclass(frozen=True)
class Speech:
    """The codes of each word of both voices, and what a voice prompt may sound like."""

    words: dict[tuple[str, int], np.ndarray]  # (frames, codebooks)
    silence: np.ndarray  # (codebooks,)
    recordings: dict[int, list[Recording]]


@dataclass(frozen=True)
class Example:
    """Where `tokens` is `NO_TOKEN`, the codes count. The model learns to say what is `learned`."""

    tokens: np.ndarray  # (positions,)
    codes: np.ndarray  # (positions, codebooks)
    learned: np.ndarray  # (positions,) bool


class Lists:
    def __init__(self, speech: Speech, seed: int) -> None:
        self._speech = speech
        self._random = np.random.default_rng(seed)
        self._ids = make_tokenizer().get_vocab()

    def batch(self, positions: int, progress: float) -> list[Example]:
        """Examples of one kind, `positions` long together; the first ones are short."""
        most = 3 if progress < 0.08 else 8
        kind = self._random.choice(4, p=(0.55, 0.2, 0.15, 0.1)) if progress > 0.25 else 0
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
            recordings = self._speech.recordings[voices[speaker]]
            recording = recordings[self._random.integers(len(recordings))]
            parts.append(self._text(speaker, list(recording.words)))
            parts.append(self._audio(recording.codes, learned=False))
        if kind in (2, 3):
            for _ in range(self._random.integers(1, 5)):
                turn = int(self._random.integers(2))
                parts += self._turn(turn, voices[turn], self._random.integers(1, 5))
        parts += self._turn(speaker, voices[speaker], self._random.integers(1, most + 1))
        return Example(*(np.concatenate(column) for column in zip(*parts, strict=True)))

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
