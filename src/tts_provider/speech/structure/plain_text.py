"""Plain text that knows where it was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tts_provider.speech.mapped_text import Run, to_runs

if TYPE_CHECKING:
    from tts_provider.speech.engine import Voice


@dataclass
class PlainText:
    """Text without structure: a space between words, one line's end between lines, and two where
    something ends.

    `starts[i]` and `ends[i]` are the place of character i in the text as its writer has it: from
    `starts[i]` to before `ends[i]`. What was put in stands at the place of what it is put in for.
    """

    text: str = ""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    pauses: list[tuple[int, float, int]] = field(default_factory=list)
    """Where in `text` a silence was asked for, of how many seconds, and where it was written."""
    phonemes: list[tuple[int, int, str]] = field(default_factory=list)
    """From where to before where `text` is pronounced so, in IPA."""
    written: list[tuple[int, int, str]] = field(default_factory=list)
    """From where to before where `text` is not what was written, and what was."""
    voices: list[tuple[int, str | Voice | None]] = field(default_factory=list)
    """From where in `text` on who says it: as it is named, or who that is; None is who said it
    before anybody was named."""

    def __len__(self) -> int:
        return len(self.text)

    def slice(self, start: int, end: int) -> PlainText:
        """A part of it, without its pauses and voices."""
        phonemes, written = (
            [(a - start, b - start, value) for a, b, value in values if start <= a < end]
            for values in (self.phonemes, self.written)
        )
        places = self.starts[start:end], self.ends[start:end]
        return PlainText(self.text[start:end], *places, [], phonemes, written)

    def extend(self, other: PlainText) -> None:
        size = len(self)
        self.pauses += [(size + at, pause_s, place) for at, pause_s, place in other.pauses]
        self.phonemes += [(size + a, size + b, ipa) for a, b, ipa in other.phonemes]
        self.written += [(size + a, size + b, text) for a, b, text in other.written]
        self.voices += [(size + at, voice) for at, voice in other.voices]
        self.text += other.text
        self.starts += other.starts
        self.ends += other.ends

    def drop(self, count: int) -> None:
        """Forget the first `count` characters."""
        self.text = self.text[count:]
        del self.starts[:count]
        del self.ends[:count]
        self.pauses = [(at - count, s, place) for at, s, place in self.pauses if at >= count]
        self.phonemes = [(a - count, b - count, ipa) for a, b, ipa in self.phonemes if a >= count]
        self.written = [(a - count, b - count, text) for a, b, text in self.written if a >= count]
        self.voices = [(at - count, voice) for at, voice in self.voices if at >= count]

    def runs(self) -> tuple[Run, ...]:
        """Where all of it was written, in few words."""
        return to_runs(list(zip(self.starts, self.ends, strict=True)))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from `start` to before `end` were written."""
        return self.starts[start], max(self.ends[start:end])


class PlainTextWriter:
    """Writes a `PlainText`: gaps are decided by what comes after them."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._plain = PlainText()
        self._length = 0
        self._gap = ""  # the strongest since the last character: " " "\n" ", " "\n\n"
        self._dropped = False  # something that is not spoken stood in the gap
        self._blank = True  # nothing was written since the text began
        self._end = 0  # of the last character, in what somebody wrote
        self.last = ""
        """The last character that was written."""

    @property
    def is_in_gap(self) -> bool:
        """Nothing was written since the last gap."""
        return bool(self._gap) or self._blank

    def write(self, text: str, start: int, end: int | None = None) -> None:
        """Text from `start` on; where it stands for something else, that goes to `end`."""
        if not text:
            return
        self._close_gap(text[0], start)
        self._put(text, start, end)

    def gap(self, gap: str) -> None:
        """What is written next stands apart; of several gaps the strongest counts."""
        if _STRENGTH[gap] > _STRENGTH[self._gap]:
            self._gap = gap

    def drop(self) -> None:
        """Something is left out here."""
        self._dropped = True

    def pause(self, pause_s: float, place: int) -> None:
        """A silence, which ends what was before it."""
        self.gap("\n\n")
        self._plain.pauses.append((self._length, pause_s, place))

    def voice(self, name: str | None) -> None:
        """Who says what comes, which ends what was before it; None as `PlainText` has it."""
        self.gap("\n\n")
        self._plain.voices.append((self._length, name))

    def pronounce(self, count: int, ipa: str) -> None:
        """The last `count` characters are pronounced so."""
        self._plain.phonemes.append((self._length - count, self._length, ipa))

    def stand_for(self, count: int, written: str) -> None:
        """The last `count` characters are said for what was written."""
        self._plain.written.append((self._length - count, self._length, written))

    def take(self) -> PlainText:
        """What was written since the last call."""
        plain, self._plain = self._plain, PlainText()
        plain.text = "".join(self._pieces)
        self._pieces, self._length = [], 0
        return plain

    def end(self) -> None:
        """The text ends, and another may begin."""
        self._gap, self._dropped, self._blank, self.last = "", False, True, ""

    def _close_gap(self, following: str, place: int) -> None:
        gap, self._gap = self._gap, ""
        dropped, self._dropped = self._dropped, False
        if self._blank or not gap:
            pass
        elif gap == ", " and self.last in ".,;:!?…":
            self._put(" ", self._end, place)
        elif gap == " " and dropped and following in ".,;:!?…":
            pass  # "as they say [1]." has no space before its full stop
        elif gap == ", ":
            self._put(",", self._end, min(self._end + 1, place))  # the space is no part of the word
            self._put(" ", self._end, place)
        else:
            self._put(gap, self._end, place)
        self._blank = False

    def _put(self, text: str, start: int, end: int | None) -> None:
        self._pieces.append(text)
        self._length += len(text)
        if end is None:
            self._plain.starts += range(start, start + len(text))
            self._plain.ends += range(start + 1, start + 1 + len(text))
        else:
            self._plain.starts += [start] * len(text)
            self._plain.ends += [end] * len(text)
        self.last, self._end = text[-1], self._plain.ends[-1]


_STRENGTH = {"": 0, " ": 1, "\n": 2, ", ": 3, "\n\n": 4}
