"""Plays a session's audio with whatever player the machine has, and counts what was heard of it."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence

from tts_provider.client.errors import PlaybackFailed
from tts_provider.client.playback import PlaybackBuffer

STREAM_PLAYERS: tuple[tuple[str, ...], ...] = (
    ("aplay", "-q", "-"),
    ("pw-cat", "--playback", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
    ("mpv", "--no-terminal", "-"),
)
"""Each reads a WAV file from standard input."""

# What they hold back by default would be half a second and more.
_LOW_LATENCY: dict[str, tuple[str, ...]] = {
    "aplay": ("--buffer-time=100000",),
    "pw-cat": ("--latency=100ms",),
    "ffplay": ("-fflags", "nobuffer", "-analyzeduration", "0"),
    "play": ("--buffer", "2048"),
    "mpv": ("--cache=no", "--audio-buffer=0.1"),
}
_BLOCK_MS = 20
# A player that has less than this may run dry while the machine does something else.
_AHEAD_S = 0.1
# A turn begins with as much, so that its second piece may be a little late.
_FIRST_MS = 100
_WAV_TAGS = {"pcm": (1, 16), "alaw": (6, 8), "mulaw": (7, 8)}


def find_player() -> tuple[str, ...]:
    """The command of one that plays as it reads. Raises `PlaybackFailed` where there is none."""
    for name, *arguments in STREAM_PLAYERS:
        if shutil.which(name):
            return (name, *_LOW_LATENCY[name], *arguments)
    names = ", ".join(command[0] for command in STREAM_PLAYERS)
    raise PlaybackFailed(
        f"no player found (looked for {names}); install one, or let your sound device's callback "
        "take from a PlaybackBuffer"
    )


class Player(PlaybackBuffer):
    """A buffer with its device: a program that plays. What is added is heard at once, and silence
    where nothing has arrived yet; `clear` falls silent at once. One turn at a time."""

    def __init__(
        self,
        audio_format: str = "pcm",
        sample_rate: int = 24_000,
        *,
        command: Sequence[str] | None = None,
        latency_ms: int = 100,
    ) -> None:
        """The session's own format and rate. `command` reads a WAV file from its standard input;
        `latency_ms` is how long it takes from there to the ear.

        Raises `PlaybackFailed` where there is no command and none is found.
        """
        super().__init__(audio_format, sample_rate)
        self._command = tuple(command or find_player())
        self._header = _wav_header(audio_format, sample_rate)
        self._block_bytes = self._bytes_a_second * _BLOCK_MS // 1000
        self._latency_s = latency_ms / 1000
        self._device: _Device | None = None

    @property
    def played_ms(self) -> int:
        heard_bytes = 0 if self._device is None else self._device.heard_bytes(self._latency_s)
        return heard_bytes * 1000 // self._bytes_a_second

    def add(self, audio: bytes) -> None:
        """Some more of the turn. Raises `PlaybackFailed` where the player cannot be started."""
        super().add(audio)
        if self._device is None:
            self._device = _Device(self)
        else:
            self._device.notify()

    def finish(self) -> None:
        """There is no more of the turn. Returns when all of it was heard, or `clear` or `stop` was
        called from another thread. Raises `PlaybackFailed` where the player did."""
        if self._device is not None:
            self._device.finish()

    def stop(self) -> None:
        """Silence, at once; `played_ms` stays as it is."""
        if self._device is not None:
            self._device.stop()
        with self._lock:
            self._waiting.clear()

    def clear(self) -> int:
        """Silence, at once, and count from the beginning again; what `played_ms` was."""
        self.stop()
        played_ms = self.played_ms
        self._device = None
        super().clear()
        return played_ms


class _Device:
    """A player's process and the thread that writes to it, for one turn."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._name = player._command[0]
        try:
            self._process = subprocess.Popen(player._command, stdin=subprocess.PIPE)
        except OSError as error:
            raise PlaybackFailed(f"cannot start {self._name}: {error.strerror}") from error
        self._changed = threading.Condition()
        self._is_complete = self._is_stopped = False
        self._begun_s = 0.0
        # Of each block that was written: when it has been heard, in seconds from the beginning, and
        # how much of the turn was by then.
        self._blocks: deque[tuple[float, int]] = deque()
        self._heard_bytes = 0
        self._heard_all = False
        self._status = 0
        self._thread = threading.Thread(target=self._write, name="player", daemon=True)
        self._thread.start()

    def heard_bytes(self, latency_s: float) -> int:
        with self._changed:
            now_s = time.monotonic() - self._begun_s - latency_s
            while self._blocks and not self._is_stopped and self._blocks[0][0] <= now_s:
                _, self._heard_bytes = self._blocks.popleft()
            if self._heard_all and self._blocks:
                _, self._heard_bytes = self._blocks.pop()
                self._blocks.clear()
            return self._heard_bytes

    def notify(self) -> None:
        """There is more."""
        with self._changed:
            self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._is_complete = True
            self._changed.notify()
        self._thread.join()
        if self._status and not self._is_stopped:
            raise PlaybackFailed(f"{self._name} failed with status {self._status}")

    def stop(self) -> None:
        self.heard_bytes(self._player._latency_s)
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._process.kill()
        self._thread.join()

    def _write(self) -> None:
        assert self._process.stdin is not None
        written_s = 0.0
        # A player that ended early says why with its exit status.
        with contextlib.suppress(OSError):
            self._process.stdin.write(self._player._header)
            self._process.stdin.flush()
            with self._changed:
                while not (self._is_ready() or self._is_stopped or self._is_complete):
                    self._changed.wait()
                self._begun_s = time.monotonic()
            while not self._is_over():
                block = self._player.take(self._player._block_bytes)
                self._process.stdin.write(block)
                self._process.stdin.flush()
                written_s += _BLOCK_MS / 1000
                with self._changed:
                    self._blocks.append((written_s, self._player._played_bytes))
                    # What it took late is heard late, and all behind it.
                    late_s = time.monotonic() - self._begun_s - written_s
                    self._begun_s += max(0.0, late_s)
                    due_s = self._begun_s + written_s - _AHEAD_S
                    while not self._is_stopped and (wait_s := due_s - time.monotonic()) > 0:
                        self._changed.wait(wait_s)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._status = self._process.wait()
        with self._changed:
            self._heard_all = self._status == 0 and not self._is_stopped

    def _is_ready(self) -> bool:
        return self._player.waiting_ms >= _FIRST_MS

    def _is_over(self) -> bool:
        with self._changed:
            return self._is_stopped or (self._is_complete and not self._player.waiting_bytes)


def _wav_header(audio_format: str, sample_rate: int) -> bytes:
    """Of a file whose length nobody knows."""
    tag, bits = _WAV_TAGS[audio_format]
    described = struct.pack(
        "<HHIIHH", tag, 1, sample_rate, sample_rate * bits // 8, bits // 8, bits
    )
    unknown = b"\xff\xff\xff\xff"
    return b"RIFF" + unknown + b"WAVEfmt \x10\0\0\0" + described + b"data" + unknown
