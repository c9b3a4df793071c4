"""Play a WAV file with whatever player the machine has."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tts_provider.client.player import STREAM_PLAYERS
from tts_provider.errors import TTSError

_STREAM_PLAYERS = STREAM_PLAYERS
# These need the file.
_FILE_PLAYERS: tuple[tuple[str, ...], ...] = (("afplay",), ("paplay",))


class PlayerError(TTSError):
    """There is no player, or it failed."""


def play(wav: Iterable[bytes]) -> None:
    """Play the pieces of one WAV file as they come. Raises `PlayerError`."""
    for command in _STREAM_PLAYERS:
        if shutil.which(command[0]):
            _play_stream(command, wav)
            return
    with tempfile.TemporaryDirectory(prefix="tts-") as folder:
        path = Path(folder) / "speech.wav"
        path.write_bytes(b"".join(wav))
        if sys.platform == "win32":
            import winsound

            winsound.PlaySound(str(path), winsound.SND_FILENAME)
            return
        for command in _FILE_PLAYERS:
            if shutil.which(command[0]):
                _check(subprocess.run([*command, str(path)], check=False).returncode, command[0])
                return
    names = ", ".join(command[0] for command in (*_STREAM_PLAYERS, *_FILE_PLAYERS))
    raise PlayerError(f"no player found (looked for {names}); write a file with -o speech.wav")


def _play_stream(command: tuple[str, ...], wav: Iterable[bytes]) -> None:
    player = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert player.stdin is not None
    try:
        # A player that ended early says why with its exit status.
        with contextlib.suppress(BrokenPipeError):
            for data in wav:
                player.stdin.write(data)
    finally:
        # What else ended it, like Ctrl-C, must not be taken for the pipe that breaks with it.
        with contextlib.suppress(BrokenPipeError):
            player.stdin.close()
        status = player.wait()
    _check(status, command[0])


def _check(status: int, name: str) -> None:
    if status != 0:
        raise PlayerError(f"{name} failed with status {status}; write a file with -o speech.wav")
