"""A test that hangs fails alone and takes its processes with it; `slow` has a reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from process_guard import MARK
from servers import PATIENCE_S

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux: processes are found in its /proc"
)

HANGING = """
import asyncio, subprocess, sys, threading
import pytest

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(1000)"]

@pytest.mark.time_limit(0.7)
async def test_a_task_waits():
    async def nobody_answers():
        await asyncio.Event().wait()
    child = subprocess.Popen(SLEEP, start_new_session=True)
    await asyncio.gather(nobody_answers())

@pytest.mark.time_limit(0.7)
def test_a_child_is_waited_for():
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.wait()

@pytest.fixture
def stuck():
    yield
    threading.Event().wait()

@pytest.mark.time_limit(0.7)
def test_a_teardown_waits(stuck):
    assert False, "failed before"

def test_another():
    pass
"""
IN_C = """
import ctypes, subprocess, sys
import pytest
import time_limit

time_limit._GRACE_S = 0.5

@pytest.mark.time_limit(0.5)
def test_a_call_into_c():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # it waits for itself, goes on after signals, and keeps Python's own lock
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

def test_another():
    pass
"""


def run_pytest(folder: Path, program: str, *options: str) -> str:
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    (folder / "test_it.py").write_text(program)
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": tests, "OUR_TEST": str(folder)}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugins = ["-p", "conftest", "-p", "pytest_asyncio.plugin", "-p", "xdist.plugin"]
    command = [sys.executable, "-m", "pytest", *plugins, *options]
    return subprocess.run(
        [*command, "--confcutdir", str(folder), "test_it.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    ).stdout


def processes_of(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"OUR_TEST={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_what_hangs_fails_alone_and_says_where(tmp_path, options):
    said = run_pytest(tmp_path, HANGING, *options)
    assert re.search(r"= 3 failed, 1 passed, 1 error in ", said), said
    assert "took more than 0.7 s; it waited here:" in said
    assert re.search(r"test_it.py:\d+ in nobody_answers", said)
    assert re.search(r"test_it.py:\d+ in test_a_child_is_waited_for", said)
    assert re.search(r"test_it.py:\d+ in stuck", said)
    assert said.count("ended: ") >= 2
    assert processes_of(tmp_path) == []


def test_a_call_into_c_ends_the_process_and_says_which_test(tmp_path):
    said = run_pytest(tmp_path, IN_C)
    assert "the test process ended while it ran test_it.py::test_a_call_into_c" in said
    assert re.search(r"test_it.py\", line \d+ in test_a_call_into_c", said)
    assert processes_of(tmp_path) == []


def test_a_call_into_c_takes_no_other_test_with_it(tmp_path):
    said = run_pytest(tmp_path, IN_C, "-n", "1")
    assert re.search(r"worker 'gw0' crashed while running '.*test_a_call_into_c'", said)
    assert "= 1 failed, 1 passed in" in said
    assert processes_of(tmp_path) == []


def test_half_a_character_in_a_failure_is_told_under_xdist(tmp_path):
    program = 'def test_one():\n    print("\\ud800")\n    assert "\\ud800" == "a"\n'
    said = run_pytest(tmp_path, program, "-n", "1")
    assert "INTERNALERROR" not in said
    assert re.search(r"= 1 failed in ", said), said


def test_slow_wants_a_reason(tmp_path):
    marks = ["slow", "slow()", 'slow("too slow")', 'slow("20 s: the only one with a long voice")']
    tests = [f"@pytest.mark.{mark}\ndef test_{n}(): pass\n" for n, mark in enumerate(marks)]
    said = run_pytest(tmp_path, "import pytest\n" + "".join(tests))
    assert "says what it costs and what it guards" in said
    refused = said.partition("these do not: ")[2].splitlines()[0]
    assert refused == ", ".join(f"test_it.py::test_{n}" for n in range(3))


def test_skips_are_summed_up_by_reason(tmp_path):
    program = (
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_one(n): pytest.skip('install Chromium: the page')\n"
        "def test_two(): pytest.skip('install Chromium: the page')\n"
    )
    assert "   4 tests  install Chromium: the page\n" in run_pytest(tmp_path, program)


def test_each_process_of_a_test_is_marked():
    assert os.environ[MARK].startswith(f"{os.getpid()}-")
