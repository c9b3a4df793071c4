"""`tts-provider say`, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import ears
from servers import clean_environment, run_cli, server_process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("server")) as running:
        yield f"ws://127.0.0.1:{running.port}"


def test_a_file_that_plays_and_is_understood(server, tmp_path):
    reply = run_cli(tmp_path, "say", "one two three", "-o", "a.wav", "--url", server)
    assert (reply.returncode, reply.stdout, reply.stderr) == (0, "", "")
    samples, rate = ears.read_wav((tmp_path / "a.wav").read_bytes())
    assert ears.hear_digits(samples, rate) == ["one", "two", "three"]


def test_text_from_a_pipe_and_audio_into_one(server, tmp_path):
    options = {"text": False, "input": b"four five six\n"}
    arguments = ["say", "-", "-o", "-", "--url", server, "--speaker", "1"]
    whole = run_cli(tmp_path, *arguments, **options)
    assert (whole.returncode, whole.stderr) == (0, b"")
    samples, rate = ears.read_wav(whole.stdout)
    assert ears.hear_digits(samples, rate) == ["four", "five", "six"]
    streamed = run_cli(tmp_path, *arguments, "--stream", **options)
    assert streamed.stdout[44:] == whole.stdout[44:]


def test_without_a_server_an_embedded_one_speaks(tmp_path, monkeypatch):
    import tts_provider.say

    monkeypatch.setattr(tts_provider.say, "DEFAULT_URL", "ws://127.0.0.1:1")
    path = tmp_path / "b.wav"
    tts_provider.say.say("seven eight nine", output=str(path))
    samples, rate = ears.read_wav(path.read_bytes())
    assert ears.hear_digits(samples, rate) == ["seven", "eight", "nine"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["", "-o", "x.wav"], 1, "No text provided"),
        (["hi", "--voice", "siri", "-o", "x.wav"], 1, "no voice 'siri'"),
        (["hi", "-o", "/nowhere/x.wav"], 2, "cannot write /nowhere/x.wav"),
        (["hi", "--url", "ws://127.0.0.1:1", "-o", "x.wav"], 1, "cannot reach ws://127.0.0.1:1"),
        (["hi", "--url", "ftp://x", "-o", "x.wav"], 1, "not a ws:// or wss:// address"),
    ],
)
def test_what_goes_wrong_is_one_sentence(server, tmp_path, arguments, code, message):
    url = [] if "--url" in arguments else ["--url", server]
    reply = run_cli(tmp_path, "say", *arguments, *url)
    assert (reply.returncode, message in reply.stderr) == (code, True), reply.stderr
    assert "Traceback" not in reply.stderr
    assert not (tmp_path / "x.wav").exists()


def test_progress_on_a_terminal(server, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tts_provider", "say", "hello", "-o", "c.wav", "--url", server]
    environment = clean_environment(tmp_path, TERM="xterm")
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:
        pass  # Linux's way to say that the other side is closed
    os.close(ours)
    assert process.wait() == 0
    assert b"s of audio" in shown
