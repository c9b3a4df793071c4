"""What an address deserves by what requests have shown: its share of them, none, or a trial.

Nothing but requests counts, so gateways that see the same come to the same view.
"""

from __future__ import annotations

from dataclasses import dataclass

_LEAST = 0.2
"""Of less than this share nothing is given: three misses."""
_RETURNED = 0.25
_GAIN = 0.05
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


@dataclass
class Standing:
    """Times are seconds of any one clock."""

    share: float = 1.0
    """Of what an address without a fault is given; below `_LEAST` it is set aside."""
    _pause_s: float = 0.0
    _next_trial_s: float = 0.0
    _is_tried: bool = False

    @property
    def is_aside(self) -> bool:
        return self.share < _LEAST

    def is_due(self, now_s: float) -> bool:
        """One request may try it."""
        return self.is_aside and now_s >= self._next_trial_s

    def begin_trial(self, now_s: float) -> None:
        """Until the pause is over again, or it ends well, there is no other."""
        self._is_tried, self._next_trial_s = True, now_s + self._pause_s

    def hit(self) -> None:
        """A request had its first audio in time."""
        if self.is_aside:
            if not self._is_tried:  # begun before it was set aside
                return
            self.share, self._pause_s = _RETURNED, 0.0
        else:
            self.share = min(1.0, self.share + _GAIN)
        self._is_tried = False

    def miss(self, now_s: float) -> None:
        """A request was lost, or another replica was quicker although it was asked later."""
        if self.is_aside and not self._is_tried:  # begun before it was set aside
            return
        self.share /= 2
        if self.is_aside:
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            self._next_trial_s = now_s + self._pause_s
        self._is_tried = False
