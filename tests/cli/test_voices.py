"""`tts-provider voices` as a user types it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from recordings import TEXT, encode, speech, wav
from servers import clean_environment, run_cli, running_server


@pytest.fixture(name="cli")
def make_cli(tmp_path):
    (tmp_path / "anna.mp3").write_bytes(encode(speech("female"), "mp3", rate=44_100))

    def cli(*arguments: str, code: int = 0) -> tuple[list[str], list[str]]:
        reply = run_cli(tmp_path, "voices", *arguments)
        assert reply.returncode == code, reply.stderr
        assert "Traceback" not in reply.stderr
        return reply.stdout.splitlines(), reply.stderr.splitlines()

    return cli


def test_who_reads_what_is_printed_may_go_away(tmp_path):
    command = [sys.executable, "-m", "tts_provider", "words", "one two"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path}
    with subprocess.Popen(command, env=clean_environment(tmp_path), **options) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, b"")


RECORDING = ("--audio", "anna.mp3", "--transcript", TEXT)


def test_add_list_and_remove(cli):
    (listed, (told,)) = cli("list")
    assert (listed, told.startswith("no voices of your own in ")) == ([], True)
    (voice_id,), warnings = cli("add", "Anna Ö", *RECORDING, "--consent")
    assert re.fullmatch(r"anna-o-[0-9a-f]{8}", voice_id)
    assert warnings == []
    (line,), _ = cli("list")
    assert line.split("\t")[:3] == [voice_id, "Anna Ö", "female"]
    assert re.fullmatch(
        r"19\d Hz\t9\.\d s\t20\d\d-\d\d-\d\d \d\d:\d\d\tno adapter", line.split("\t", 3)[3]
    )
    assert cli("remove", voice_id) == ([], [])
    assert cli("list")[1] == [told]


def test_check_keeps_nothing(cli, tmp_path):
    lines, warnings = cli("check", "anna.mp3", "--transcript", TEXT, "--data-dir", "data")
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert set(facts) == {"length", "speech", "pitch", "level", "noise", "clipped"}
    assert re.fullmatch(r"19\d Hz, female", facts["pitch"])
    assert warnings == []
    assert list((tmp_path / "data").iterdir()) == []


def test_warnings_go_to_stderr(cli, tmp_path):
    (tmp_path / "short.wav").write_bytes(wav(speech()[: 24_000 * 5]))
    _, warnings = cli("check", "short.wav")
    assert warnings == ["warning: The audio has 5.0 s of speech; 8 to 20 s work best."]
    command = ("add", "A", "--audio", "short.wav", "--transcript", TEXT[: len(TEXT) // 2])
    (voice_id,), warnings = cli(*command, "--consent")
    assert voice_id
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("add", "Anna", *RECORDING), 2, "add --consent if the person"),
        (("add", "Anna", "--consent", *RECORDING[2:]), 2, "--audio"),
        (
            ("add", "Anna", "--consent", "--audio", "no.wav", *RECORDING[2:]),
            2,
            "cannot read no.wav",
        ),
        (("add", "Anna", "--consent", *RECORDING[:3], "Hi."), 1, "cannot be what the audio says"),
        (("add", " ", "--consent", *RECORDING), 1, "name must have 1 to 100 characters"),
        (("check", ".env"), 1, "audio must be WAV, MP3, FLAC, Ogg"),
        (("check", "."), 2, "cannot read .: "),
        (("remove", "../anna"), 1, "there is no voice '../anna'"),
        (("list", "--data-dir", "anna.mp3"), 2, "cannot write to the data folder"),
        ((), 2, "COMMAND"),
        (("sing",), 2, "sing"),
    ],
)
def test_what_goes_wrong_is_one_sentence(cli, tmp_path, arguments, code, message):
    (tmp_path / ".env").write_text("HF_TOKEN=none\n")
    _, errors = cli(*arguments, code=code)
    assert message in errors[-1]


async def test_a_running_server_sees_it(cli, tmp_path):
    async with running_server(data_dir=tmp_path / "data") as server:
        (voice_id,), _ = cli("add", "Anna", *RECORDING, "--consent", "--data-dir", "data")
        assert [voice.id for voice in server.service._store.list()] == [voice_id]
