"""Limits how much of one WebSocket's input is read before all others have a turn.

A frame takes 0.1 ms to handle and has 6 bytes at least, so what arrives in one read may take
seconds. The input is cut at the ends of frames, with a limit for each turn and for each second.
"""

from __future__ import annotations

from dataclasses import dataclass

from tts_provider.config import Limits

FRAMES_A_TURN = 8
BYTES_A_TURN = 64 * 1024
# The burst that is allowed after a pause: a text that was written long ago, the other side's audio.
_BURST_S = 4.0

_PING = 0x9


@dataclass
class Cut:
    """The part of the input that is read in this turn."""

    data_bytes: int = 0
    frames: int = 0  # that end in it
    ends_in_ping: bool = False


class FrameCutter:
    """Finds the ends of frames: https://datatracker.ietf.org/doc/html/rfc6455#section-5.2"""

    def __init__(self) -> None:
        self._left_bytes = 0  # of the frame that has begun
        self._is_ping = False

    def cut(self, data: bytes | bytearray) -> Cut:
        """Return as much of `data` as one turn may have, never a part of a frame's header. The cut
        is after a ping, because its answer is a frame of its own."""
        cut = Cut()
        while cut.frames < FRAMES_A_TURN and cut.data_bytes < BYTES_A_TURN:
            if not self._left_bytes and not self._begin(data, cut):
                break
            room = min(BYTES_A_TURN - cut.data_bytes, len(data) - cut.data_bytes)
            taken = min(self._left_bytes, room)
            cut.data_bytes += taken
            self._left_bytes -= taken
            if self._left_bytes:
                break
            cut.frames += 1
            if self._is_ping:
                cut.ends_in_ping = True
                break
        return cut

    def _begin(self, data: bytes | bytearray, cut: Cut) -> bool:
        """Read the next frame's header, if it is there."""
        at = cut.data_bytes
        if len(data) < at + 2:
            return False
        length = data[at + 1] & 0x7F
        more = {126: 2, 127: 8}.get(length, 0)
        header_bytes = 2 + more + (4 if data[at + 1] & 0x80 else 0)
        if len(data) < at + header_bytes:
            return False
        if more:
            length = int.from_bytes(data[at + 2 : at + 2 + more], "big")
        self._left_bytes = header_bytes + length
        self._is_ping = data[at] & 0x0F == _PING
        return True


class FrameLimit:
    """The rate limit of a connection, in frames and bytes a second. After a pause it allows a burst
    of what was not used, up to a bound."""

    def __init__(self, limits: Limits) -> None:
        self._rates = (limits.max_frames_per_s, limits.max_bytes_per_s)
        self._patience_s = limits.flood_timeout_s
        self._paid_until_s = [0.0, 0.0]
        self._slowed_since_s: float | None = None

    def take(self, cut: Cut, now_s: float) -> float:
        """Count what was read; return how long the rest has to wait."""
        for index, count in enumerate((cut.frames, cut.data_bytes)):
            paid_s = max(self._paid_until_s[index], now_s - _BURST_S)
            self._paid_until_s[index] = paid_s + count / self._rates[index]
        wait_s = max(0.0, max(self._paid_until_s) - now_s)
        if not wait_s:
            self._slowed_since_s = None
        elif self._slowed_since_s is None:
            self._slowed_since_s = now_s
        return wait_s

    def is_spent(self, now_s: float) -> bool:
        """Whether the connection has exceeded the limit for so long without a pause that it is to
        be closed."""
        slowed_s = self._slowed_since_s
        return slowed_s is not None and now_s - slowed_s > self._patience_s
