"""A session's turns on a player, which here is a program that hands on what it would play."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from servers import running_server, server_process
from tts_provider import AsyncTTSClient, PlaybackFailed, Player, TTSClient
from tts_provider.client.player import STREAM_PLAYERS, find_player

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such players")

BYTES_A_MS = 48
HEADER_BYTES = 44
COUNT = "One two three. Four five six. Seven eight nine. One two three. Four five six."


def put_player(folder: Path, monkeypatch, script: str) -> None:
    """`aplay`, as the only one there is."""
    (folder / "bin").mkdir()
    path = folder / "bin" / "aplay"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")


@pytest.fixture(name="heard")
def make_player(tmp_path, monkeypatch) -> Iterator[BinaryIO]:
    """What the loudspeaker gets, which the test reads as a device does."""
    os.mkfifo(tmp_path / "device")
    put_player(tmp_path, monkeypatch, f"exec cat > {tmp_path}/device")
    # Open for both, so that no turn's end is the end of it, and not to be waited for.
    descriptor = os.open(tmp_path / "device", os.O_RDWR)
    with os.fdopen(descriptor, "rb", buffering=0) as device:
        yield device


def read(device: BinaryIO, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        data += device.read(size_bytes - len(data))
    return data


def left(device: BinaryIO) -> bytes:
    """What is there and was not read."""
    os.set_blocking(device.fileno(), False)
    data = b""
    while piece := device.read(65_536):
        data += piece
    os.set_blocking(device.fileno(), True)
    return data


def sounds(audio: bytes) -> list[int]:
    """Its samples without those of silence, which a player adds where nothing has arrived."""
    return [sample for sample in memoryview(audio).cast("h") if sample]


async def test_a_turn_is_heard_to_its_end(heard):
    async with running_server() as server:
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}").session() as speech:
            speech.append("One two three.")
            speech.end()
            audio = b"".join([piece async for piece in speech])
            speech.append("One two three.")
            speech.end()
            await speech.play()
            data = left(heard)
            assert data[:4] + data[8:12] == b"RIFFWAVE"
            assert sounds(data[HEADER_BYTES:]) == sounds(audio)
            reply = await speech.interrupt()  # the last word has been heard
            assert (reply.heard, reply.unheard) == ("One two three.", "")
            assert reply.played_ms == len(audio) // BYTES_A_MS


async def test_an_interruption_is_silence_and_knows_what_was_heard(heard):
    """The device is read until half a second was played, however long that takes."""
    async with running_server() as server:
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}").session(words=True) as speech:
            for _ in range(2):  # the next turn has a player of its own
                speech.append(COUNT)
                speech.end()
                playing = asyncio.create_task(speech.play())
                await asyncio.to_thread(read, heard, HEADER_BYTES + 500 * BYTES_A_MS)
                reply = await speech.interrupt()
                await playing
                assert len(left(heard)) <= 50 * BYTES_A_MS
                # Written 0.1 s before it leaves the device, which takes 0.1 s for it.
                assert 240 <= reply.played_ms <= 500
                assert reply.heard + reply.unheard == COUNT
                last = [word for word in speech.words if word.start_ms <= reply.played_ms][-1]
                assert abs(len(reply.heard.split()) - COUNT[: last.end].count(" ") - 1) <= 1


async def test_a_turn_whose_task_was_cancelled_can_be_asked_for_what_was_heard(heard):
    async with running_server() as server:
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}").session() as speech:
            speech.append(COUNT)
            speech.end()
            playing = asyncio.create_task(speech.play())
            await asyncio.to_thread(read, heard, HEADER_BYTES + 500 * BYTES_A_MS)
            playing.cancel()
            await asyncio.wait({playing})
            assert len(left(heard)) <= 50 * BYTES_A_MS
            assert 240 <= (await speech.interrupt()).played_ms <= 500


def test_the_same_without_asyncio(heard, tmp_path):
    with server_process(tmp_path, "--engine", "espeak") as server:
        client = TTSClient(f"ws://127.0.0.1:{server.port}")
        with client.session(words=True) as speech:
            speech.append("One two three.")
            speech.end()
            audio = b"".join(speech)
            speech.append("One two three.")
            speech.end()
            speech.play()
            assert sounds(left(heard)[HEADER_BYTES:]) == sounds(audio)
            assert [word.text for word in speech.words] == ["One", "two", "three."]
            speech.append(COUNT)
            speech.end()
            playing = threading.Thread(target=speech.play)
            playing.start()
            read(heard, HEADER_BYTES + 500 * BYTES_A_MS)
            reply = speech.interrupt()
            playing.join()
            assert len(left(heard)) <= 50 * BYTES_A_MS
            assert 240 <= reply.played_ms <= 500
            speech.append("One two three.")
            speech.end()
            assert b"".join(speech) == audio


@pytest.mark.parametrize(("audio_format", "tag"), [("mulaw", 7), ("alaw", 6)])
def test_telephones_formats(heard, audio_format, tag):
    player = Player(audio_format, 8000)
    player.add(b"a" * 1600)
    player.finish()
    data = left(heard)
    assert data[20:22] == bytes([tag, 0])
    assert data[HEADER_BYTES:] == b"a" * 1600
    assert player.played_ms == 200
    assert player.clear() == 200
    assert player.played_ms == 0


def test_text_that_comes_late_is_silence_that_nobody_counts(heard):
    player = Player()
    player.add(b"aa" * 2400)
    data = read(heard, HEADER_BYTES + 200 * BYTES_A_MS)
    player.add(b"bb" * 2400)
    player.finish()
    data += left(heard)
    assert data[HEADER_BYTES:].strip(b"\0").startswith(b"aa" * 2400 + bytes(100 * BYTES_A_MS))
    assert data.count(b"bb") == 2400
    assert player.played_ms == 200


def test_a_player_that_fails_is_said(tmp_path, monkeypatch):
    put_player(tmp_path, monkeypatch, "exit 3")
    player = Player()
    player.add(bytes(100_000))
    with pytest.raises(PlaybackFailed, match="aplay failed with status 3") as told:
        player.finish()
    assert (told.value.code, told.value.is_retryable) == ("playback_failed", False)


def test_no_player_at_all_names_what_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlaybackFailed, match=r"aplay.*callback take from a PlaybackBuffer"):
        Player()
    with pytest.raises(PlaybackFailed, match="cannot start none: No such file"):
        Player(command=["none"]).add(b"aa")


def test_each_player_reads_its_standard_input(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, *arguments in STREAM_PLAYERS:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        command = find_player()
        assert (command[0], list(command[-len(arguments) :])) == (name, arguments)
        path.unlink()
