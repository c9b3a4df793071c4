"""`tts-provider say`, run as a user runs it."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.server import serve

import decoders
import ears
import forks
from forks import Program
from servers import PATIENCE_S, clean_environment, run_cli, server_process
from tts_provider import __version__
from tts_provider.audio.encode.tag import find_tag
from tts_provider.audio.pcm import from_s16, wav_data_at, wav_tag
from tts_provider.errors import TTSError


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
    assert decoders.wav_data(streamed.stdout) == decoders.wav_data(whole.stdout)


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize(
    ("name", "options", "audio_format"),
    [
        ("a.mp3", [], "mp3"),
        ("a.ogg", [], "opus"),
        ("a", ["--format", "flac"], "flac"),
    ],
)
def test_a_format_by_the_files_name_or_asked_for(
    server, tmp_path, name, options, audio_format, stream
):
    say = ["say", "four five six", "-o", name, "--url", server, *options, *stream]
    reply = run_cli(tmp_path, *say)
    assert (reply.returncode, reply.stderr) == (0, "")
    samples, rate, _ = decoders.decode((tmp_path / name).read_bytes(), audio_format, 24_000)
    assert ears.hear_digits(samples, rate) == ["four", "five", "six"]


def test_a_telephones_file_has_its_rate(server, tmp_path):
    """It has no header that could say so."""
    say = ["say", "one two three", "--url", server, "-o"]
    for name, audio_format in (("a.ulaw", "mulaw"), ("a.al", "alaw"), ("a.wav", "wav")):
        assert run_cli(tmp_path, *say, name).returncode == 0
        if audio_format != "wav":
            data = (tmp_path / name).read_bytes()
            samples, _, _ = decoders.decode(data, audio_format, 8000)
            assert ears.hear_digits(samples, 8000) == ["one", "two", "three"]
    whole = decoders.wav_data((tmp_path / "a.wav").read_bytes())
    assert abs(len(samples) - len(whole) / 6) <= 1


def test_a_name_of_a_format_that_is_not_here_is_refused(server, tmp_path):
    reply = run_cli(tmp_path, "say", "one", "-o", "a.m4a", "--url", server)
    assert (reply.returncode, reply.stderr.count("\n")) == (2, 1)
    assert "cannot write .m4a to a.m4a: its name must end in .wav, .aac" in reply.stderr
    assert not (tmp_path / "a.m4a").exists()


def test_a_files_name_is_spoken_and_it_is_said_how_to_speak_the_file(server, tmp_path):
    (tmp_path / "one.txt").write_text("Two.", "utf-8")
    reply = run_cli(tmp_path, "say", "one.txt", "-o", "a.wav", "--url", server)
    assert (reply.returncode, reply.stderr.count("\n")) == (0, 1)
    assert "one.txt is a file; what is in it is read so: - < one.txt" in reply.stderr


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_captions_beside_the_audio(server, tmp_path, stream):
    text = "It is **$5**. Come & see!"
    for name in ("a.srt", "a.VTT"):
        say = ["say", text, "-o", "a.wav", "--captions", name, "--url", server, *stream]
        reply = run_cli(tmp_path, *say)
        assert (reply.returncode, reply.stdout, reply.stderr) == (0, "", "")
    samples, _ = ears.read_wav((tmp_path / "a.wav").read_bytes())
    vtt, srt = (Path(tmp_path, name).read_text("utf-8") for name in ("a.VTT", "a.srt"))
    assert vtt.startswith("WEBVTT\n\n00:00:00.")
    assert "\nIt is $5.\n" in vtt
    assert "\nCome &amp; see!\n" in vtt
    assert srt.startswith("1\n00:00:00,")
    assert "\nCome & see!\n" in srt
    minutes, seconds = vtt.rpartition("--> 00:")[2].split("\n")[0].split(":")
    assert minutes == "00"
    assert 0 <= len(samples) / 24_000 - float(seconds) < 0.5


def test_captions_for_karaoke(server, tmp_path):
    for name in ("a.srt", "a.vtt"):
        say = ["say", "Four five six", "-o", "a.wav", "--captions", name, "--caption-words"]
        reply = run_cli(tmp_path, *say, "--url", server)
        assert (reply.returncode, reply.stderr) == (0, "")
    vtt, srt = (Path(tmp_path, name).read_text("utf-8") for name in ("a.vtt", "a.srt"))
    assert re.search(r"\nFour <00:00:00\.\d{3}>five <00:00:0\d\.\d{3}>six\n", vtt)
    assert re.findall(r"^[A-Za-z]+$", srt, re.MULTILINE) == ["Four", "five", "six"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hi", "--caption-words"], "--caption-words needs a file for the captions"),
        (["-", "--stream", "--caption-words"], "captions are of a text that is complete"),
        (["hi", "--captions", "a.txt"], "captions are written as .srt or .vtt; got 'a.txt'"),
        (["-", "--stream", "--captions", "a.srt"], "captions are of a text that is complete"),
        (["hi", "-o", "a.wav", "--captions", "no/a.srt"], "cannot write no/a.srt: No such file"),
    ],
)
def test_captions_that_cannot_be_are_one_sentence(server, tmp_path, arguments, sentence):
    reply = run_cli(tmp_path, "say", *arguments, "--url", server, input="hi")
    assert reply.returncode == 2
    assert sentence in reply.stderr
    assert reply.stderr.count("\n") == 1


@pytest.fixture(name="writer")
def start_writer(server, tmp_path):
    """`say --stream -` into a pipe, and somebody who writes into it."""
    arguments = ["-", "--stream", "-o", "-", "--speaker", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with say_process(tmp_path, server, *arguments, **pipes) as process:
        yield process
        process.kill()
        process.wait()


def test_a_sentence_is_heard_before_the_next_is_written(writer):
    writer.stdin.write("one two three. Four é".encode()[:-1])  # half a character
    wav = writer.stdout.read(20_000)
    writer.stdin.write("é".encode()[1:] + b" seven eight.\n")
    writer.stdin.close()
    while data := writer.stdout.read(1 << 16):
        wav += data
    assert (writer.wait(PATIENCE_S), writer.stderr.read()) == (0, b"")
    samples = from_s16(wav[wav_data_at(wav) :])
    heard = ears.hear_digits(samples)
    assert (heard[:4], heard[-2:]) == (["one", "two", "three", "four"], ["seven", "eight"])
    assert ears.median_pitch_hz(samples) > 150


def test_who_hears_what_is_being_written_goes_away(writer):
    writer.stdin.write(b"one two three. Four")
    assert writer.stdout.read(1)
    writer.stdout.close()
    writer.stdin.write(b" five six. Seven eight nine. " * 50)
    assert (writer.wait(PATIENCE_S), writer.stderr.read()) == (141, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts in another way")
@pytest.mark.usefixtures("interruptible")
def test_waiting_for_a_writer_can_be_interrupted(writer):
    writer.stdin.write(b"one two three. Four")
    assert writer.stdout.read(1)
    writer.send_signal(signal.SIGINT)
    assert (writer.wait(PATIENCE_S), writer.stderr.read()) == (130, b"")


def test_a_long_text_is_written_live(server, tmp_path):
    text = "One two three four five six seven eight nine ten.\n" * 500  # over a context's limit
    arguments = ["-", "--stream", "-o", "-"]
    with say_process(
        tmp_path, server, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(text.encode())
        process.stdin.close()
        assert len(process.stdout.read(500_000)) == 500_000
        process.stdout.close()
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (141, b"")


LISTING = "```\n" + "nobody = speaks(this)\n" * 40 + "```\n\n"
LONG = f"{LISTING}# One two\n\nThree four **five** six.\n\n{LISTING}Seven 8 nine.\n\n" * 2 + "Stop."


@pytest.fixture(name="strict", scope="module")
def start_strict_server(tmp_path_factory):
    """One that takes 600 characters, or 15 s, at a time."""
    limits = {"TTS_PROVIDER_MAX_TEXT_CHARACTERS": "600", "TTS_PROVIDER_MAX_REPLY_AUDIO_S": "15"}
    with server_process(tmp_path_factory.mktemp("strict"), **limits) as running:
        yield f"ws://127.0.0.1:{running.port}"


@pytest.mark.parametrize(
    ("name", "stream"), [("a.wav", []), ("a.wav", ["--stream"]), ("a.mp3", []), ("a.opus", [])]
)
def test_a_text_too_long_for_a_request_is_the_same_file(server, strict, tmp_path, name, stream):
    """Most of it is left unsaid, and waits for nobody."""
    assert len(LONG) > 3000
    files = []
    for url in (server, strict):
        say = ["say", "-", "--url", url, "-o", name, "--captions", "a.srt", *stream]
        reply = run_cli(tmp_path, *say, input=LONG)
        assert (reply.returncode, reply.stderr) == (0, "")
        files.append((decode(tmp_path / name), (tmp_path / "a.srt").read_text("utf-8")))
    (whole, captions), (parts, captions_of_parts) = files
    assert captions_of_parts == captions
    if name == "a.wav":
        assert parts == whole
    else:  # samples of 16 bits were between
        assert len(parts) == len(whole)
        assert np.corrcoef(parts, whole)[0, 1] > 0.98


def decode(path: Path):
    if path.suffix == ".wav":
        return path.read_bytes()
    return decoders.decode_elsewhere(path.read_bytes())[0]


def test_speech_too_long_for_a_request_is_the_same_file(server, strict, tmp_path):
    """At a quarter of the speed it comes to more than 15 s."""
    for url, name in ((server, "a.wav"), (strict, "b.wav")):
        say = ["say", "One two three. " * 12, "--speed", "0.25", "--url", url, "-o", name]
        assert run_cli(tmp_path, *say).returncode == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.wav").stat().st_size > 15 * 48_000


def test_what_is_wrong_with_a_long_text_is_one_sentence(strict, tmp_path):
    say = ["say", "-", "--url", strict, "-o", "a.wav", "--ssml"]
    reply = run_cli(tmp_path, *say, input="<speak>" + "One. " * 200 + "<what/></speak>")
    assert (reply.returncode, reply.stderr.count("\n")) == (1, 1)
    assert "<what>" in reply.stderr


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ([], " \n", "No text provided"),
        (["--voice", "siri"], "hi", "no voice 'siri'"),
        (["--speaker", "7"], "hi", "no speaker 7"),
        (["--format", "opus", "--sample-rate", "22050"], "hi", "22050"),
    ],
)
def test_what_goes_wrong_live_is_one_sentence(server, tmp_path, options, text, message):
    say = ["say", "-", "--stream", "-o", "-", "--url", server, *options]
    reply = run_cli(tmp_path, *say, input=text)
    assert (reply.returncode, message in reply.stderr) == (1, True), reply.stderr
    assert reply.stderr.count("\n") == 1


def test_without_a_server_an_embedded_one_speaks(tmp_path, monkeypatch, capsys):
    import tts_provider.cli.say

    nobody_listens(monkeypatch, tmp_path)
    path = tmp_path / "b.wav"
    tts_provider.cli.say.say("seven eight nine", output=str(path))
    samples, rate = ears.read_wav(path.read_bytes())
    assert ears.hear_digits(samples, rate) == ["seven", "eight", "nine"]
    because = "no server at ws://127.0.0.1:1; speaking with the embedded voice"
    assert capsys.readouterr().err == f"tts-provider: {because}\n"


def nobody_listens(monkeypatch, folder) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TTS_PROVIDER_HOST", "127.0.0.1")
    monkeypatch.setenv("TTS_PROVIDER_PORT", "1")


@pytest.mark.parametrize("by", ["url", "http", "port in .env"])
def test_a_server_is_found_where_the_settings_say(server, tmp_path, by):
    address = server.removeprefix("ws://")
    host, _, port = address.partition(":")
    (tmp_path / ".env").write_text(
        {
            "url": f"TTS_PROVIDER_URL={server}\n",
            "http": f"TTS_PROVIDER_URL=http://{address}/\n",
            "port in .env": f"TTS_PROVIDER_HOST={host}\nTTS_PROVIDER_PORT={port}\n",
        }[by]
    )
    reply = run_cli(tmp_path, "say", "one two three", "-o", "a.wav")
    assert (reply.returncode, reply.stderr) == (0, "")
    doctor = run_cli(tmp_path, "doctor").stdout
    assert re.search(rf"say speaks through +\w+://{address}", doctor), doctor


def test_a_server_that_was_chosen_is_never_replaced(tmp_path):
    (tmp_path / ".env").write_text("TTS_PROVIDER_URL=ws://127.0.0.1:1\n")
    reply = run_cli(tmp_path, "say", "hi", "-o", "a.wav")
    assert (reply.returncode, reply.stderr.count("\n")) == (1, 1)
    assert "cannot reach ws://127.0.0.1:1" in reply.stderr
    assert "ws://127.0.0.1:1, which does not answer" in run_cli(tmp_path, "doctor").stdout


def test_the_key_of_the_settings_is_shown_to_their_server_only(tmp_path):
    with server_process(tmp_path, "--api-key", "secret") as running:
        url = f"ws://127.0.0.1:{running.port}"
        (tmp_path / ".env").write_text(f"TTS_PROVIDER_URL={url}\nTTS_PROVIDER_API_KEYS=secret\n")
        assert run_cli(tmp_path, "say", "hi", "-o", "a.wav").returncode == 0
        reply = run_cli(tmp_path, "say", "hi", "-o", "b.wav", "--url", url)
    assert (reply.returncode, "(401)" in reply.stderr) == (1, True)


@pytest.mark.parametrize("live", [[], ["--stream"]])
def test_speed_ssml_and_a_dictionary(server, tmp_path, live):
    (tmp_path / "words.txt").write_text("tts = seven\n[male]\nqq = eight\n[female]\nqq = nine\n")
    lexicon = ["--lexicon", "words.txt", "--speaker", "1"]
    text = "<speak>tts<break time='300ms'/> qq</speak>"
    say = ["say", "-", "--url", server, "-o", "-", "--ssml", *lexicon, *live]
    plain = run_cli(tmp_path, *say, input=text.encode(), text=False)
    assert (plain.returncode, plain.stderr) == (0, b"")
    samples, rate = ears.read_wav(plain.stdout)
    assert ears.hear_digits(samples, rate) == ["seven", "nine"]
    faster = run_cli(tmp_path, *say, "--speed", "1.5", input=text.encode(), text=False)
    assert len(faster.stdout) < 0.8 * len(plain.stdout)


@pytest.mark.parametrize(
    "variable",
    [
        {"TTS_PROVIDER_MAX_STREAMS": "abc"},
        {"TTS_PROVIDER_API_KEYS": "k"},
        {"TTS_PROVIDER_PORT": "99999999"},
    ],
)
def test_the_embedded_server_does_not_heed_a_servers_settings(tmp_path, variable):
    program = (
        "import sys, tts_provider.cli.say as s; s.DEFAULT_URL = 'ws://127.0.0.1:1';"
        "from tts_provider.cli.main import main; sys.exit(main(['say', 'nine', '-o', 'c.wav']))"
    )
    (tmp_path / ".env").write_text("TTS_PROVIDER_MAX_MESSAGE_BYTES=few\n")
    reply = forks.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=clean_environment(tmp_path, **variable),
        text=True,
        timeout=PATIENCE_S,
    )
    assert (reply.returncode, "Traceback" in reply.stderr) == (0, False), reply.stderr
    samples, rate = ears.read_wav((tmp_path / "c.wav").read_bytes())
    assert ears.hear_digits(samples, rate) == ["nine"]


def test_an_embedded_server_that_cannot_start_is_one_sentence(tmp_path, monkeypatch):
    import tts_provider.cli.say
    from tts_provider.server import lifecycle

    def fail(host: str, port: int) -> None:
        raise ValueError("no luck")

    nobody_listens(monkeypatch, tmp_path)
    monkeypatch.setattr(lifecycle, "bind", fail)
    with pytest.raises(TTSError, match=r"the embedded server cannot start: .*no luck"):
        tts_provider.cli.say.say("hi", output=str(tmp_path / "x.wav"))


def say_process(folder, url, *arguments, variables=None, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tts_provider", "say", *arguments, "--url", url]
    environment = clean_environment(folder, **(variables or {}))
    return Program(command, cwd=folder, env=environment, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_who_reads_the_output_goes_away(server, tmp_path, stream, unbuffered):
    arguments = ["A long text. " * 40, *stream, "-o", "-"]
    variables = {"PYTHONUNBUFFERED": unbuffered}
    options = {"variables": variables, "stdout": subprocess.PIPE}
    with say_process(tmp_path, server, *arguments, **options) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_one_sentence(server, tmp_path):
    with Path("/dev/full").open("wb") as full:
        with say_process(tmp_path, server, "hi", "-o", "-", stdout=full) as process:
            message = process.stderr.read()
    assert process.returncode == 2
    assert message.startswith(b"tts-provider: cannot write to standard output: No space left")
    assert message.count(b"\n") == 1


def test_a_streamed_file_says_its_length(server, tmp_path):
    arguments = ["say", "one two three", "--stream", "--url", server, "-o"]
    assert run_cli(tmp_path, *arguments, "d.wav").returncode == 0
    data = (tmp_path / "d.wav").read_bytes()
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() == (len(data) - 44 - len(wav_tag(0))) // 2
    assert find_tag(data) == f"tts-provider {__version__}"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes of this kind")
def test_a_pipe_by_name_is_left_as_it_is(server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with say_process(tmp_path, server, "one", "--stream", "-o", "pipe") as process:
        data = (tmp_path / "pipe").read_bytes()
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (0, b"")
    at = wav_data_at(data)
    assert data[4:8] == data[at - 4 : at] == b"\xff" * 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts in another way")
@pytest.mark.usefixtures("interruptible")
async def test_waiting_for_a_server_can_be_interrupted(tmp_path):
    asked = asyncio.Event()

    async def never_answer(socket) -> None:
        await socket.recv()
        asked.set()
        await socket.wait_closed()

    async with serve(never_answer, "127.0.0.1", 0) as silent:
        url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        with say_process(tmp_path, url, "hi", "-o", "x.wav") as process:
            await asyncio.wait_for(asked.wait(), PATIENCE_S)
            process.send_signal(signal.SIGINT)
            said = await asyncio.to_thread(process.stderr.read)
    assert (process.returncode, said) == (130, b"")


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
    process = Program(command, cwd=tmp_path, env=environment, stderr=theirs)
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
