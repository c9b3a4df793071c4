from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tts_provider.cli.output import player

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows plays through winsound")


def put_program(folder: Path, name: str, script: str, monkeypatch) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    found = (*player._STREAM_PLAYERS, *player._FILE_PLAYERS)
    monkeypatch.setattr(
        player, "_STREAM_PLAYERS", [p for p in player._STREAM_PLAYERS if p[0] == name]
    )
    monkeypatch.setattr(player, "_FILE_PLAYERS", [p for p in player._FILE_PLAYERS if p[0] == name])
    assert any(command[0] == name for command in found)


def test_a_player_that_reads_a_pipe(tmp_path, monkeypatch):
    put_program(tmp_path, "aplay", f"cat > {tmp_path}/heard", monkeypatch)
    player.play(iter([b"RIFF", b"data"]))
    assert (tmp_path / "heard").read_bytes() == b"RIFFdata"


def test_a_player_that_reads_a_file(tmp_path, monkeypatch):
    put_program(tmp_path, "paplay", f'cat "$1" > {tmp_path}/heard', monkeypatch)
    player.play(iter([b"RIFF", b"data"]))
    assert (tmp_path / "heard").read_bytes() == b"RIFFdata"


@pytest.mark.parametrize("script", ["exit 3", "cat > /dev/null; exit 3"])
def test_a_player_that_fails_is_said(tmp_path, monkeypatch, script):
    put_program(tmp_path, "aplay", script, monkeypatch)
    with pytest.raises(player.PlayerError, match="aplay failed with status 3"):
        player.play(iter([b"x" * 100_000] * 20))


def test_no_player_at_all_names_what_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(player.PlayerError, match=r"aplay.*-o speech\.wav"):
        player.play(iter([b"x"]))


def test_an_interruption_is_not_taken_for_a_player_that_fails(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    os.mkfifo(gone)
    put_program(tmp_path, "aplay", f"exec 0<&-; exec 3> {gone}; exit 3", monkeypatch)

    def interrupted():
        yield b"RIFF"
        gone.read_bytes()  # until the player hears no more
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        player.play(interrupted())
