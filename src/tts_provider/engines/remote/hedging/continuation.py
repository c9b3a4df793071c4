"""Where one replica stopped, another goes on: it says the whole passage again, and what was heard
already is left out.

The same samples go on without a seam. Another kind of processor may round otherwise; then the rest
begins behind the last whole word that was heard. Speech with a seed is only ever the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tts_provider.engines.remote.frames import SamplesFrame, WordsFrame
from tts_provider.speech.engine import SAMPLE_RATE, Samples, Word

_COMPARED = SAMPLE_RATE * 20 // 1000
_SAME = 1e-3
"""Of full scale: −60 dB. What is rounded otherwise in one place is soon another wave."""
_FADE = SAMPLE_RATE * 5 // 1000
_MOST_AGAIN = round(1.5 * SAMPLE_RATE)
"""What is said twice: the word that was cut off, and a pause before it."""

SpeechFrame = SamplesFrame | WordsFrame


class CannotContinue(Exception):
    """The second replica says it in another way, where it must not."""


@dataclass
class Heard:
    """What of a passage has gone to its listener."""

    count: int = 0
    """Samples."""
    words: list[Word] = field(default_factory=list)
    tail: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    """The last samples."""

    def add(self, frame: SpeechFrame) -> None:
        if isinstance(frame, WordsFrame):
            self.words += frame.times
            return
        self.count += len(frame.samples)
        joined = frame.samples
        if len(joined) < _COMPARED:
            joined = np.concatenate([self.tail, joined])
        self.tail = joined[-_COMPARED:]


class Continuation:
    """Takes the frames of who says it again, gives those that go on."""

    def __init__(self, heard: Heard, *, must_be_same: bool) -> None:
        """Meanwhile more may be heard."""
        self._heard, self._must_be_same = heard, must_be_same
        self._known = set[tuple[int, int]]()
        self._count = 0
        self._replayed: list[Samples] = []
        self._words: list[Word] = []
        self._shift: int | None = None
        """Its samples are so much later on the listener's timeline; None until that is known."""

    def push(self, frame: SpeechFrame) -> Iterator[SpeechFrame]:
        """Raises `CannotContinue`."""
        if self._shift is not None:
            yield from self._moved(frame)
            return
        if isinstance(frame, WordsFrame):
            self._words += frame.times
        else:
            self._replayed.append(frame.samples)
            self._count += len(frame.samples)
        # One sample more, or who stopped at the end would win with nothing to say.
        if self._count > self._heard.count:
            yield from self._begin(is_over=False)

    def finish(self) -> Iterator[SpeechFrame]:
        """All was said again. Raises `CannotContinue`."""
        if self._shift is None:
            yield from self._begin(is_over=True)

    def _begin(self, *, is_over: bool) -> Iterator[SpeechFrame]:
        replay = np.concatenate([*self._replayed, np.zeros(0, np.float32)])
        cut = self._find_cut(replay, is_over)
        if cut is None:
            return
        self._shift = self._heard.count - cut
        self._known = {(word.text_start, word.text_end) for word in self._heard.words}
        rest = replay[cut:]
        if self._shift:
            rest = rest.copy()
            fade = min(_FADE, len(rest))
            rest[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        self._replayed = []
        if self._words:
            yield from self._moved(WordsFrame(self._words))
        yield SamplesFrame(rest)

    def _find_cut(self, replay: Samples, is_over: bool) -> int | None:
        """Where in the replay the rest begins; None while that is not known. Raises
        `CannotContinue`."""
        heard = self._heard
        tail = replay[max(0, heard.count - len(heard.tail)) : heard.count]
        is_long = len(replay) >= heard.count
        if is_long and np.abs(tail - heard.tail).max(initial=0) <= _SAME:
            return heard.count
        if self._must_be_same:
            raise CannotContinue("says it in other samples, and speech with a seed is never mixed")
        whole = [word for word in heard.words if word.end <= heard.count]
        if heard.count - (whole[-1].end if whole else 0) > _MOST_AGAIN:
            raise CannotContinue("says it in other samples, and the last word is too long ago")
        if not whole:
            return 0  # less than a word was heard
        last = whole[-1]
        for word in self._words:
            if (word.text_start, word.text_end) == (last.text_start, last.text_end):
                is_here = word.end <= len(replay)  # words may come before their samples
                return min(word.end, len(replay)) if is_here or is_over else None
        if is_over:
            raise CannotContinue("does not say when it speaks the word that was heard last")
        return None

    def _moved(self, frame: SpeechFrame) -> Iterator[SpeechFrame]:
        if isinstance(frame, SamplesFrame):
            yield frame
            return
        assert self._shift is not None
        new = [w for w in frame.times if (w.text_start, w.text_end) not in self._known]
        if new:
            yield WordsFrame([word.moved(self._shift) for word in new])
