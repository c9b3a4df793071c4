"""Scripts: a cast, its people's turns, and captions that say who speaks."""

from __future__ import annotations

import io

import numpy as np
import pytest

import decoders
import ears
from servers import run_cli
from tts_provider.cli.cast import cast_script, join_turns, load_cast
from tts_provider.client import SpokenWord
from tts_provider.errors import StartupError

from .test_say import server  # noqa: F401

CAST = 'ANNA = "female"\n\n[ben]\nspeaker = 0\nspeed = 1.2\n'
SCRIPT = "# A scene\nANNA: Two one four.\n\nBEN: Nine six.\n"


@pytest.fixture(name="files")
def write_files(tmp_path):
    (tmp_path / "cast.toml").write_text(CAST)
    (tmp_path / "script.txt").write_text(SCRIPT)
    return tmp_path


def load(tmp_path, cast: str):
    (tmp_path / "cast.toml").write_text(cast)
    return load_cast(str(tmp_path / "cast.toml"))


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_script_is_spoken_by_its_cast(server, files, stream):  # noqa: F811
    say = ["say", "--cast", "cast.toml", "script.txt", "--url", server, *stream]
    reply = run_cli(files, *say, "-o", "scene.wav", "--captions", "scene.vtt", "--pause-ms", "500")
    assert (reply.returncode, reply.stderr) == (0, "")
    samples, rate = ears.read_wav((files / "scene.wav").read_bytes())
    cues = (files / "scene.vtt").read_text().split("\n\n")[1:]
    assert [cue.split("\n")[1] for cue in cues] == ["<v ANNA>Two one four.", "<v ben>Nine six."]
    silent = np.convolve(np.abs(samples) < 1e-4, np.ones(rate // 2), "valid") >= rate // 2
    middle = int(np.flatnonzero(silent)[0]) + rate // 4
    assert ears.hear_digits(samples[:middle], rate) == ["two", "one", "four"]
    assert ears.median_pitch_hz(samples[:middle], rate) > 150
    assert ears.median_pitch_hz(samples[middle:], rate) < 150


def test_from_standard_input_in_another_format(server, files):  # noqa: F811
    say = ["say", "--cast", "cast.toml", "-", "--url", server, "-o", "scene.mp3"]
    reply = run_cli(files, *say, input=SCRIPT)
    assert (reply.returncode, reply.stderr) == (0, "")
    samples, _, _ = decoders.decode((files / "scene.mp3").read_bytes(), "mp3", 24_000)
    assert len(samples) > 24_000


def test_whoever_has_no_voice_is_told_before_anything_is_spoken(files):
    script = "ANNA: Hi.\nCARL: Ho.\nDora: He.\nCARL: Ha."
    reply = run_cli(files, "say", "--cast", "cast.toml", "-", "-o", "x.wav", input=script)
    assert reply.returncode == 2
    assert "no voice for CARL (line 2), Dora (line 3)" in reply.stderr
    assert reply.stderr.count("\n") == 1
    assert not (files / "x.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--cast", "cast.toml", "script.txt", "--voice", "male"], "leave out --voice"),
        (["--cast", "cast.toml", "script.txt", "--speaker", "1"], "leave out --speaker"),
        (["--cast", "nowhere.toml", "script.txt"], "cannot read nowhere.toml"),
        (["--cast", "cast.toml", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--cast", "script.txt", "script.txt"], "script.txt is no TOML"),
        (["Hello.", "--pause-ms", "5"], "--cast"),
    ],
)
def test_what_is_wrong_is_one_line(files, arguments, part):
    reply = run_cli(files, "say", *arguments, "-o", "x.wav")
    assert (reply.returncode, part in reply.stderr) == (2, True), reply.stderr
    assert reply.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("cast", "part"),
    [
        ("", "has nobody"),
        ("A = 5", "must be a voice"),
        ("[A]\nspeed = 1.0", "needs a voice or a speaker"),
        ('[A]\nvoice = "male"\npitch = 2', "has no 'pitch'"),
        ('[A]\nvoice = "male"\nspeed = "fast"', "speed must be int or float"),
        ("[A]\nspeaker = true", "speaker must be int"),
        ('A = "male"\na = "female"', "twice"),
    ],
)
def test_a_cast_that_cannot_be_is_refused(tmp_path, cast, part):
    with pytest.raises(StartupError, match=part):
        load(tmp_path, cast)


def test_a_narrator_says_what_stands_under_no_name(tmp_path):
    script = "It was night.\n\nANNA: Hi.\n\nShe left."
    with pytest.raises(StartupError, match="line 1 stands under no name"):
        cast_script(script, load(tmp_path, CAST))
    turns = cast_script(script, load(tmp_path, f'Narrator = "male"\n{CAST}'))
    assert [turn.name for turn in turns] == ["Narrator", "ANNA", "Narrator"]
    assert turns[0].request() == {"text": "It was night.", "voice": "male"}
    with pytest.raises(StartupError, match="nothing to say"):
        cast_script("# no\n", load(tmp_path, CAST))


def test_words_are_those_of_all_turns(tmp_path):
    turns = cast_script("ANNA: Hi you.\nBEN: Ho.", load(tmp_path, CAST))
    told = [SpokenWord("you.", 0, 9, 3, 7, turn=0), SpokenWord("Ho.", 9, 20, 0, 3, turn=1)]
    text, words = join_turns(turns, told)
    assert [(text[word.start : word.end], word.voice) for word in words] == [
        ("you.", "ANNA"),
        ("Ho.", "ben"),
    ]
    assert io.StringIO(text).readline() == "Hi you.\n"
