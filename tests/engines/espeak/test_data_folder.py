"""Temporary folders of processes that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from tts_provider.engines.espeak.data_folder import make_data_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="they stay there")


@pytest.fixture(name="temporary", autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(path) -> None:
    os.utime(path, (1, 1))


def test_what_the_dead_left_goes_and_what_the_living_have_stays(temporary):
    code = (
        "import sys, tempfile\n"
        f"tempfile.tempdir = {str(temporary)!r}\n"
        "from tts_provider.engines.espeak.data_folder import make_data_folder\n"
        "folder = make_data_folder('x-')\nprint(folder.name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        left = process.stdout.readline().strip()
        age(left)
        with make_data_folder("x-"):
            assert os.path.isdir(left)  # noqa: PTH112
        process.kill()
    with make_data_folder("x-") as own:
        assert os.listdir(temporary) == [os.path.basename(own)]  # noqa: PTH119, PTH208


def test_young_folders_links_and_those_of_others_stay(temporary):
    (temporary / "x-young").mkdir()
    (temporary / "other").mkdir()
    (temporary / "x-link").symlink_to(temporary / "other")
    age(temporary / "other")
    with make_data_folder("x-"):
        assert (temporary / "x-young").is_dir()
        assert (temporary / "other").is_dir()
        assert (temporary / "x-link").is_symlink()
