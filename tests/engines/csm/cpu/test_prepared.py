"""A folder of prepared weights that several processes share, with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from servers import PATIENCE_S
from tts_provider.engines.csm.cpu.prepared import PreparedFolder
from tts_provider.errors import EngineFailed, StartupError

HOLD = """
import sys
from pathlib import Path
from tts_provider.engines.csm.cpu.prepared import PreparedFolder
folder = PreparedFolder(Path(sys.argv[1]))
with folder.locked("a", print):
    (folder.folder / "a.0123.tmp").write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.readline()
    folder.write("a", lambda path: path.write_bytes(b"made by the first"))
"""


@pytest.fixture
def other(tmp_path):
    """Another process that makes `a` and has the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate(timeout=PATIENCE_S)


def test_one_prepares_and_the_other_waits_and_says_so(other, tmp_path):
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        other.stdin.write("go on\n")
        other.stdin.flush()

    with PreparedFolder(tmp_path).locked("a", report):
        assert (tmp_path / "a.safetensors").read_bytes() == b"made by the first"
    assert said == [f"another process prepares the same weights in {tmp_path}; waiting for it"]


def test_one_that_is_killed_leaves_no_lock_and_its_file_goes(other, tmp_path):
    def kill(_line: str) -> None:
        other.send_signal(signal.SIGKILL)

    folder = PreparedFolder(tmp_path)
    # Somebody else's: not while it is made.
    assert folder.prune(set(), 4) == []
    with folder.locked("a", kill):
        assert not list(tmp_path.glob("*.tmp"))


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path):
    folder = PreparedFolder(tmp_path)
    folder.folder.mkdir(exist_ok=True)
    for name in ("csm-int8-0123.4567.tmp", "csm-int4-89ab.0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"half")
    with folder.locked("b", print):
        folder.write("b", lambda path: path.write_bytes(b"b"))
    folder.used("b")
    assert {path.name for path in tmp_path.iterdir()} == {".locks", "b.safetensors"}


def test_what_was_not_used_lately_goes(tmp_path):
    folder = PreparedFolder(tmp_path, max_files=2)
    for number, key in enumerate("abc"):
        with folder.locked(key, print):
            folder.write(key, lambda path: path.write_bytes(b"12345"))
        if number < 2:
            import os

            os.utime(folder.path(key), (1000 - number, 1000 - number))
    folder.used("b")  # the older one of the two
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {"b", "c"}
    assert folder.prune({"b"}, 0) == [(folder.path("c"), 5)]


def test_a_stop_ends_the_making_and_leaves_nothing(tmp_path):
    folder, begun, end = PreparedFolder(tmp_path), threading.Event(), threading.Event()
    problems: list[Exception] = []

    def fill(path: Path) -> None:
        path.write_bytes(b"half")
        begun.set()
        end.wait(PATIENCE_S)  # in the middle of a layer

    def make() -> None:
        try:
            with folder.locked("a", print):
                folder.write("a", fill)
        except EngineFailed as problem:
            problems.append(problem)

    thread = threading.Thread(target=make)
    thread.start()
    begun.wait(PATIENCE_S)
    folder.stop()
    assert not list(tmp_path.glob("*.tmp")), "gone at once, whatever the thread does"
    end.set()
    thread.join()
    assert "the server stopped while it prepared the weights" in str(problems[0])
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_stop_ends_the_waiting(other, tmp_path):
    folder = PreparedFolder(tmp_path)
    with pytest.raises(EngineFailed, match="stopped"), folder.locked("a", lambda _: folder.stop()):
        raise AssertionError("somebody else has it")


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartupError, match=r"cannot write the prepared weights.*--data-dir"),
        PreparedFolder(tmp_path / "file").locked("a", print),
    ):
        raise AssertionError("there is no such folder")
