"""`tts-provider book`, run as a user runs it, and ended as users and systems end it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import books
import ears
from forks import Program
from rows import rows
from servers import clean_environment, run_cli, server_process
from tts_provider.cli.book.book import read_ranges, read_time
from tts_provider.errors import StartupError

DIGITS = [["one", "two"], ["three", "four"], ["five", "six"], ["seven", "eight"], ["nine", "zero"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("server")) as running:
        yield f"ws://127.0.0.1:{running.port}"


@pytest.fixture(name="folder")
def make_folder(tmp_path):
    cut = zip("ABCDE", DIGITS, strict=True)
    chapters = (f"# {title}\n\n{' '.join(said)}.\n" for title, said in cut)
    (tmp_path / "digits.md").write_text("\n".join(chapters))
    (tmp_path / "lamps.epub").write_bytes(books.two_lamps())
    return tmp_path


def book(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    return run_cli(folder, "book", *arguments, **options)


def start(folder: Path, *arguments: str) -> Program:
    return Program(
        [sys.executable, "-m", "tts_provider", "book", *arguments, "--json"],
        cwd=folder,
        env=clean_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sound_of(path: Path, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 24_000)
        frames = [*container.decode(audio=0), None]
        pieces = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    samples = np.concatenate(pieces)
    return samples[round(start_s * 24_000) : None if end_s is None else round(end_s * 24_000)]


def test_chapters_are_where_they_are_heard(server, folder):
    done = book(folder, "digits.md", "-o", "digits.m4b", "--url", server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("digits.m4b: 5 chapters, ")
    assert sorted(path.name for path in folder.glob("digits*")) == ["digits.m4b", "digits.md"]
    with av.open(str(folder / "digits.m4b")) as container:
        chapters = container.chapters()
        title = container.metadata["title"]
    assert title == "digits"
    assert [chapter["metadata"]["title"] for chapter in chapters] == list("ABCDE")
    sound = sound_of(folder / "digits.m4b")
    for chapter, said in zip(chapters, DIGITS, strict=True):
        start, end = (int(24_000 * chapter[at] * chapter["time_base"]) for at in ("start", "end"))
        own = sound[max(start - 1200, 0) : end]
        assert np.flatnonzero(np.abs(own) > 0.02)[0] < 2 * 1200  # within 50 ms of its first word
        assert ears.hear_digits(own[24_000:])[-2:] == said


def test_what_would_be_spoken_is_told(folder):
    told = book(folder, "lamps.epub", "--dry-run")
    assert (told.returncode, told.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert lines[:4] == [
        "The Two Lamps, by A. Writer (en)",
        "1 The First Lamp 16 words 5 s",
        "2 The Second Lamp 18 words 6 s",
        "2 chapters, 34 words, about 11 s",
    ]
    assert "left out: front and back matter: 4 (11 words)" in lines
    told = json.loads(book(folder, "lamps.epub", "--dry-run", "--json").stdout)
    assert [chapter["words"] for chapter in told["chapters"]] == [16, 18]
    assert {"what": "footnote marks", "count": 2, "words": 1} in told["left_out"]


def test_standard_input_and_a_part_of_it(server, folder):
    text = (folder / "digits.md").read_bytes()
    arguments = ["-", "-o", "part/", "--chapter-format", "wav", "--chapters", "2,4-", "--quiet"]
    done = book(folder, *arguments, "--url", server, "--title", "N", input=text, text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert sorted(path.name for path in (folder / "part").iterdir()) == [
        "01 B.wav",
        "02 D.wav",
        "03 E.wav",
    ]
    done = book(folder, "digits.md", "-o", "all/", "-o", "a.wav", "--url", server)
    names = "all/01 A.mp3, all/02 B.mp3, all/03 C.mp3 and 3 more: 5 chapters, "
    assert done.stdout.startswith(names)
    done = book(folder, "digits.md", "-o", "a.m4b", "--chapters", "6-")
    assert "no chapter 6; the book has 1 to 5" in done.stderr


def test_a_preview_in_another_voice(server, folder):
    common = ["digits.md", "--url", server, "--preview", "2s", "--json"]
    for name, speaker in (("a.opus", "0"), ("b.opus", "1")):
        done = book(folder, *common, "-o", name, "--speaker", speaker)
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["event"], last["files"]) == ("done", [name])
        assert 1 < last["audio_s"] < 20
    assert (folder / "a.opus").read_bytes() != (folder / "b.opus").read_bytes()


# Fewer characters than a part has: each chapter is one.
LONG = "\n".join(f"# Chapter {n}\n\nThe lamp burned for {n} hours.\n" for n in range(1, 13))


def ended(folder: Path, arguments: list[str], after: int, how: signal.Signals) -> tuple[int, str]:
    """Its exit code, and what it said, where it is ended behind so many parts."""
    process = start(folder, *arguments)
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            after -= json.loads(line)["event"] == "part"
            if after == 0:
                process.send_signal(how)
                break
        _, told = process.communicate()
    return process.returncode, told


@pytest.mark.usefixtures("interruptible")
def test_it_goes_on_where_it_was_ended_to_the_same_bytes(server, folder):
    (folder / "long.md").write_text(LONG)
    whole = book(folder, "long.md", "-o", "whole.m4b", "--url", server)
    assert whole.returncode == 0
    arguments = ["long.md", "-o", "cut.m4b", "--url", server]
    assert ended(folder, arguments, 3, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (folder / "cut.m4b").exists()
    code, told = ended(folder, arguments, 2, signal.SIGINT)
    assert code == 130
    assert "the same command goes on with cut.m4b.partial" in told
    there = len(list((folder / "cut.m4b.partial").glob("*.part")))
    assert there >= 5
    other = book(folder, *arguments, "--speaker", "1")
    assert other.returncode == 2
    assert "voice was male and is female" in other.stderr
    done = book(folder, *arguments, "--json")
    parts = [line for line in done.stdout.splitlines() if json.loads(line)["event"] == "part"]
    assert len(parts) == 12 - there
    assert (folder / "cut.m4b").read_bytes() == (folder / "whole.m4b").read_bytes()
    assert not (folder / "cut.m4b.partial").exists()


def test_a_server_that_goes_away_costs_nothing_that_was_made(server, folder):
    (folder / "long.md").write_text(LONG)
    assert book(folder, "long.md", "-o", "whole.opus", "--url", server).returncode == 0
    with server_process(folder) as other:
        process = start(
            folder, "long.md", "-o", "cut.opus", "--url", f"ws://127.0.0.1:{other.port}"
        )
        assert process.stdout is not None
        with process:
            assert json.loads(process.stdout.readline())["event"] == "part"
            other.process.kill()
            _, told = process.communicate()
    assert process.returncode == 1
    assert "what is made so far is kept, and the same command goes on with it" in told
    assert book(folder, "long.md", "-o", "cut.opus", "--url", server).returncode == 0
    assert (folder / "cut.opus").read_bytes() == (folder / "whole.opus").read_bytes()


@pytest.mark.slow("25 s: a book by itself, killed ten times, wherever it is")
def test_killed_ten_times_at_random(folder):
    (folder / "long.md").write_text(LONG)
    assert book(folder, "long.md", "-o", "whole.epub", "-o", "whole.mp3").returncode == 0
    arguments, chance = ["long.md", "-o", "cut.epub", "-o", "cut.mp3"], random.Random(36)
    kills = 0
    while kills < 10:
        process = start(folder, *arguments)
        try:
            process.communicate(timeout=chance.uniform(0.5, 4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert book(folder, *arguments).returncode == 0
    assert sorted(path.name for path in folder.glob("cut*")) == ["cut.epub", "cut.mp3"]
    for kind in ("epub", "mp3"):
        assert (folder / f"cut.{kind}").read_bytes() == (folder / f"whole.{kind}").read_bytes()


@rows(
    ("arguments", "code", "sentence"),
    [
        (["digits.md"], 2, "say what to make with -o"),
        (["digits.md", "-o", "a.doc"], 2, "a.doc says nothing of what is to be made"),
        (["none.md", "-o", "a.m4b"], 2, "cannot read none.md: No such file"),
        (["digits.md", "-o", "a.m4b", "--chapters", "x"], 2, "such as 3, 3-5 or 7-; got 'x'"),
        (["digits.md", "-o", "a.m4b", "--chapters", "9"], 1, "no chapter 9; the book has 1 to 5"),
        (["digits.md", "--dry-run", "--speed", "0"], 2, "--speed must be from 0.25 to 4; got 0"),
        (["digits.md", "-o", "a.m4b", "--preview", "soon"], 2, "a time such as 90s, 2m or 1h"),
        (["bad.epub", "-o", "a.m4b"], 1, "the file is no EPUB, whatever its name"),
        (["none/digits.md", "--dry-run"], 2, "cannot read none/digits.md"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(arguments, code, sentence, folder):
    (folder / "bad.epub").write_text("hello")
    done = book(folder, *arguments)
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(folder.glob("a.m4b*"))


def test_a_voice_that_does_not_exist(server, folder):
    done = book(folder, "digits.md", "-o", "a.mp3", "--url", server, "--voice", "nobody")
    assert done.returncode == 1
    assert "there is no voice 'nobody'" in done.stderr


@rows(
    ("text", "most", "numbers"),
    [("3", 9, {3}), ("3-5,8", 9, {3, 4, 5, 8}), ("7-", 9, {7, 8, 9}), (" 1 , 2 ", 9, {1, 2})],
)
def test_ranges(text, most, numbers):
    assert read_ranges(text, most) == numbers


@rows("text", ["", "5-3", "a", "1..2", "-3", "1,,2", "1-2-3"])
def test_what_is_no_range(text):
    with pytest.raises(StartupError, match="--chapters"):
        read_ranges(text, 9)


@rows(("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5 h", 5400), ("3 min", 180)])
def test_times(text, seconds):
    assert read_time(text) == seconds
