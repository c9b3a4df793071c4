"""What a timeline has spoken and where, so that an interruption can tell what was heard."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tts_provider.speech.engine import CODE_SAMPLES, SAMPLE_RATE, History, Spoken, Word
from tts_provider.speech.reading import Passage
from tts_provider.speech.timing.word_times import time_words

# Until a voice's rate is known: 14 characters a second, as people read aloud.
_SAMPLES_A_CHARACTER = SAMPLE_RATE / 14


class Written:
    """A context's text as its client wrote it. Of a long text only the end is kept, the part that
    may still be unheard."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._start = 0
        self._text = ""

    @property
    def size_characters(self) -> int:
        return len(self._text)

    def add(self, text: str) -> None:
        """More of it. What is too much is dropped when it is twice that, not each time."""
        self._text += text
        if len(self._text) > 2 * self._longest:
            dropped = len(self._text) - self._longest
            self._text, self._start = self._text[dropped:], self._start + dropped

    def split(self, at: int) -> tuple[str, str]:
        """What stands before that character of the whole text, and what behind."""
        at = max(0, at - self._start)
        return self._text[:at], self._text[at:]


@dataclass
class SpokenPassage:
    """A passage that is being or was spoken; places are samples of the timeline."""

    passage: Passage
    start: int
    change: float = 1.0
    """How much faster than the engine's own sound it is heard."""
    speed: float = 1.0
    """That was asked for."""
    times: list[Word] = field(default_factory=list)
    """Of its words, as far as the engine has told; of the engine's own sound."""
    end: int | None = None
    """None while it is spoken."""
    remembered: Spoken | None = None
    """As the engine's history has it."""

    def spoken_at(self, position: int, rate: float) -> list[Word]:
        """The written words on the timeline. Words without a known time are estimated, with `rate`
        samples for a character."""
        times, length = list(self.times), len(self.passage.spoken)
        done, at = (times[-1].text_end, times[-1].end) if times else (0, 0)
        if done < length:
            if self.end is not None:
                finish = max(at, round((self.end - self.start) * self.change))
            else:  # it takes longer than what was heard of it so far
                finish = at + round((length - done) * rate)
                finish = max(finish, round((position - self.start) * self.change))
            if not times or self.end is None:
                times.append(Word(at, finish, done, length, is_estimated=True))
        change = self.change
        return [
            replace(
                word,
                start=self.start + round(word.start / change),
                end=self.start + round(word.end / change),
            )
            for word in time_words(self.passage, times)
        ]

    def spoken_until(self, text_end: int) -> str:
        """The words that were said for what is written before that character of the whole text."""
        ends = [word.spoken_end for word in self.passage.written_words() if word.end <= text_end]
        end, spoken = max(ends, default=0), self.passage.spoken
        while 0 < end < len(spoken) and not spoken[end].isspace():
            end += 1  # the punctuation that the word touches
        return spoken[:end]


class Transcript:
    """A context's: its text, the passages that are or were spoken of it, and what its engine
    remembers of them."""

    def __init__(self, written: Written, history: History, longest: int) -> None:
        """Of passages so many characters are kept."""
        self._written, self.history = written, history
        self._longest, self._characters = longest, 0
        self._passages: deque[SpokenPassage] = deque()

    def begin(self, spoken: SpokenPassage) -> None:
        self._passages.append(spoken)
        self._characters += len(spoken.passage.text)
        while self._characters > self._longest and len(self._passages) > 1:
            self._characters -= len(self._passages.popleft().passage.text)

    def interrupt(self, position: int) -> tuple[str, str]:
        """Who listened heard the timeline until there: what they heard of the text and what not,
        and the history has no more than that. A word belongs to what was heard when half of it
        was."""
        heard_end, is_all = self._find_end(position)
        self._cut_history(position, heard_end)
        heard, rest = self._written.split(heard_end)
        if is_all and not rest.strip():
            heard, rest = heard + rest, ""
        return heard, rest

    def _find_end(self, position: int) -> tuple[int, bool]:
        """Up to which character of the text was heard, and whether every passage was, whole."""
        heard_end, is_all = 0, True
        for spoken in self._passages:
            if spoken.start >= position:
                return heard_end, False
            words = spoken.spoken_at(position, self._rate())
            heard = [word for word in words if (word.start + word.end) / 2 <= position]
            if heard:
                heard_end = max(heard_end, heard[-1].text_end)
            is_all = spoken.end is not None and len(heard) == len(words)
            if is_all:
                heard_end = max(heard_end, spoken.passage.end)
            elif not words or len(heard) < len(words):
                return heard_end, False
        return heard_end, is_all

    def _rate(self) -> float:
        """Samples of the engine's sound for a character, as far as is known."""
        for spoken in reversed(self._passages):
            if spoken.times and spoken.times[-1].text_end:
                return spoken.times[-1].end / spoken.times[-1].text_end
            if spoken.end is not None and spoken.passage.spoken:
                heard = (spoken.end - spoken.start) * spoken.change
                return heard / len(spoken.passage.spoken)
        speed = self._passages[-1].speed / self._passages[-1].change if self._passages else 1.0
        return _SAMPLES_A_CHARACTER / speed

    def _cut_history(self, position: int, heard_end: int) -> None:
        shortened = {
            id(spoken.remembered): self._shorten(spoken, position, heard_end)
            for spoken in self._passages
            if spoken.remembered is not None and (spoken.end is None or spoken.end > position)
        }
        kept = [*self._shortened(shortened)]
        self.history.count -= len(self.history.segments) - len(kept)
        self.history.segments = kept
        for spoken in self._passages:
            if id(spoken.remembered) in shortened:
                spoken.remembered = shortened[id(spoken.remembered)]

    def _shortened(self, shortened: dict[int, Spoken | None]) -> Iterator[Spoken]:
        for segment in self.history.segments:
            rest = shortened.get(id(segment), segment)
            if rest is not None:
                yield rest

    @staticmethod
    def _shorten(spoken: SpokenPassage, position: int, heard_end: int) -> Spoken | None:
        """As it was heard; None where no word of it was."""
        assert spoken.remembered is not None, "the engine remembers it"
        text = spoken.spoken_until(heard_end) if spoken.start < position else ""
        if not text:
            return None
        heard = (position - spoken.start) * spoken.change
        codes = spoken.remembered.codes[: math.ceil(heard / CODE_SAMPLES)]
        return replace(spoken.remembered, text=text, codes=codes)
