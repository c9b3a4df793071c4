"""Audio between a session and a sound device, counted as it is played."""

from __future__ import annotations

import threading
from collections import deque

_BYTES_A_SAMPLE = {"pcm": 2, "mulaw": 1, "alaw": 1}
_SILENCE = {"pcm": b"\0", "mulaw": b"\xff", "alaw": b"\xd5"}


class PlaybackBuffer:
    """What has arrived and is not played yet. A device's callback, in whatever thread, takes from
    it; `played_ms` is how much of the turn it has taken, without the silence it was given where
    nothing had arrived."""

    def __init__(
        self, audio_format: str = "pcm", sample_rate: int = 24_000, latency_ms: int = 0
    ) -> None:
        """The session's own. `latency_ms` is what the device still has to play of what it took."""
        if audio_format not in _BYTES_A_SAMPLE:
            raise ValueError(
                f"played audio is counted in {', '.join(_BYTES_A_SAMPLE)}; got {audio_format!r}"
            )
        self._silence = _SILENCE[audio_format]
        self._bytes_a_second = _BYTES_A_SAMPLE[audio_format] * sample_rate
        self._latency_ms = latency_ms
        self._waiting: deque[bytes] = deque()
        self._played_bytes = 0
        self._lock = threading.Lock()

    @property
    def played_ms(self) -> int:
        return max(0, self._played_bytes * 1000 // self._bytes_a_second - self._latency_ms)

    @property
    def waiting_bytes(self) -> int:
        """What is left to play."""
        with self._lock:
            return sum(map(len, self._waiting))

    @property
    def waiting_ms(self) -> int:
        return self.waiting_bytes * 1000 // self._bytes_a_second

    def add(self, audio: bytes) -> None:
        """Some more of the turn."""
        with self._lock:
            self._waiting.append(audio)

    def take(self, size_bytes: int) -> bytes:
        """As many bytes, to be played now; silence where there are fewer."""
        with self._lock:
            taken = bytearray()
            while self._waiting and len(taken) < size_bytes:
                piece, missing = self._waiting.popleft(), size_bytes - len(taken)
                taken += piece[:missing]
                if len(piece) > missing:
                    self._waiting.appendleft(piece[missing:])
            self._played_bytes += len(taken)
        return bytes(taken) + self._silence * (size_bytes - len(taken))

    def finish(self) -> None:
        """There is no more of the turn. Here the device takes it when it likes."""

    def stop(self) -> None:
        """Drop what is not played; `played_ms` stays as it is."""
        with self._lock:
            self._waiting.clear()

    def clear(self) -> int:
        """Drop what is not played, and count from the beginning again; what `played_ms` was."""
        with self._lock:
            played_ms = self.played_ms
            self._waiting.clear()
            self._played_bytes = 0
        return played_ms
