"""Which stream reads its prompt next, and which streams make a frame: plain values, no engine.

Streams wait in order for a slot. Prompts are read in bounded pieces, one between two steps, so
streams that speak keep their beat. Every stream that has read its prompt makes a frame in each
step, unless it is far enough ahead of its listener. What is in the background takes the turns
that are left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

PIECE_FRAMES = 64
"""Prompt frames read between two steps at most: more would hold up a cancellation."""
FEWEST_PIECE_FRAMES = 8
"""Fewer read the model's weights too often."""

_LEARNED = 0.3  # how much the last measurement counts


@dataclass(eq=False)
class Stream:
    """One utterance's place in the schedule. Counts are in frames."""

    prompt_frames: int
    max_frames: int
    cut_frames: int = 0
    """A piece of the prompt ends here, so that what was read until then can be kept; 0 is none."""
    slot: int | None = None
    read_frames: int = 0
    made_frames: int = 0
    ahead_frames: int = 0
    """Made and not yet taken by the listener."""
    is_background: bool = False
    """Nobody is waiting for it: it works in turns in which no other stream does."""

    @property
    def has_read(self) -> bool:
        return self.read_frames >= self.prompt_frames


_Stream = TypeVar("_Stream", bound=Stream)


@dataclass(frozen=True)
class Plan(Generic[_Stream]):
    start: list[_Stream]
    """These get a slot now."""
    read: tuple[_Stream, int] | None
    """This stream reads so many frames of its prompt."""
    step: list[_Stream]
    """These make a frame; who has made none comes first, then who has the least in hand."""


@dataclass
class Scheduler(Generic[_Stream]):
    slots: int
    max_ahead_frames: int
    _waiting: deque[_Stream] = field(default_factory=deque)
    _running: list[_Stream] = field(default_factory=list)

    def add(self, stream: _Stream) -> None:
        self._waiting.append(stream)

    def remove(self, stream: _Stream) -> None:
        """The stream has ended, or nobody wants it any more."""
        if stream in self._running:
            self._running.remove(stream)
        elif stream in self._waiting:
            self._waiting.remove(stream)

    @property
    def can_work(self) -> bool:
        """There is something to plan: a stream to start, to read or to step."""
        if self._waiting and len(self._running) < self.slots:
            return True
        return any(map(self._can_go_on, self._running))

    @property
    def least_ahead(self) -> int | None:
        """How many frames the listener with the fewest has in hand; None where none has heard
        anything yet."""
        listened = (s for s in self._running if s.made_frames and not s.is_background)
        return min((s.ahead_frames for s in listened), default=None)

    def plan(self, piece_frames: int = PIECE_FRAMES) -> Plan[_Stream]:
        """What to do next, reading so many prompt frames at most. Streams in `start` run from now
        on."""
        start = []
        while self._waiting and len(self._running) < self.slots:
            stream = self._waiting.popleft()
            self._running.append(stream)
            start.append(stream)
        able = list(filter(self._can_go_on, self._running))
        if not all(stream.is_background for stream in able):
            able = [stream for stream in able if not stream.is_background]
        reading = next((stream for stream in able if not stream.has_read), None)
        ready = [stream for stream in able if stream.has_read]
        ready.sort(key=lambda stream: (stream.made_frames > 0, stream.ahead_frames))
        return Plan(
            start, None if reading is None else (reading, _piece(reading, piece_frames)), ready
        )

    def _can_go_on(self, stream: _Stream) -> bool:
        return not stream.has_read or stream.ahead_frames < self.max_ahead_frames


def _piece(stream: Stream, most: int) -> int:
    end = stream.prompt_frames
    if stream.read_frames < stream.cut_frames:
        end = stream.cut_frames
    return min(end - stream.read_frames, most)


class Piece:
    """How much of a prompt is read between two frames, so that who joins does not silence who
    speaks: learns how long both take, and fits the one between the others.

    A turn reads a piece and then makes a frame for everybody. It may take a frame's time, and half
    of what the listener who has the least in hand has over: the other half is for what is not
    foreseen.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._read_s: float | None = None  # for a prompt frame
        self._step_s: float | None = None

    def learn_read(self, frames: int, taken_s: float) -> None:
        self._read_s = _learn(self._read_s, taken_s / frames)

    def learn_step(self, taken_s: float) -> None:
        self._step_s = _learn(self._step_s, taken_s)

    def frames(self, least_ahead: int | None) -> int:
        """`least_ahead` is how many frames the listener with the fewest has in hand; None where
        nobody listens yet."""
        if least_ahead is None:
            return PIECE_FRAMES
        if self._read_s is None or self._step_s is None:
            return FEWEST_PIECE_FRAMES
        spare_s = self._frame_s * (1 + max(0, least_ahead) / 2) - self._step_s
        return int(min(max(spare_s / self._read_s, FEWEST_PIECE_FRAMES), PIECE_FRAMES))


def _learn(known: float | None, measured: float) -> float:
    return measured if known is None else known + _LEARNED * (measured - known)
