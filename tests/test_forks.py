"""A forked program behaves as one that Python began."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

import forks
from servers import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks need Linux's subreapers")
ABOUT_ITSELF = """
import os, sys
print(__name__, sys.argv, os.getcwd(), os.environ["HOME"], os.getppid(), sys.path[0])
print(sys.stdin.read(), file=sys.stderr)
sys.exit(3)
"""


def python(*arguments: str, start=forks.run, **options):
    options = {"text": True, "timeout": PATIENCE_S, "input": "é", **options}
    return start([sys.executable, *arguments], **options)


def begun(command, **options):
    return subprocess.run(command, capture_output=True, check=False, **options)


@pytest.mark.parametrize("how", ["code", "module", "script"])
def test_what_a_program_sees_and_leaves(tmp_path, how):
    (tmp_path / "itself.py").write_text(ABOUT_ITSELF)
    arguments = {"code": ["-c", ABOUT_ITSELF], "module": ["-m", "itself"], "script": ["itself.py"]}
    options = {"cwd": tmp_path, "env": {**os.environ, "HOME": "/nowhere"}}
    forked = python(*arguments[how], "a", "b", **options)
    assert (forked.returncode, forked.stderr) == (3, "é\n")
    assert f"'a', 'b'] {tmp_path} /nowhere {os.getpid()}" in forked.stdout
    real = python(*arguments[how], "a", "b", start=begun, **options)
    assert forked.stdout == real.stdout


@pytest.mark.parametrize(
    ("code", "returncode", "said"),
    [
        ("raise ValueError('no luck')", 1, "ValueError: no luck\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, "Interrupt\n"),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'the end\\n')", 0, "the end\n"),
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_how_a_program_ends(code, returncode, said):
    forked = python("-c", code)
    assert (forked.returncode, forked.stdout) == (returncode, "")
    assert forked.stderr.endswith(said)
    assert bool(forked.stderr) == bool(said)


def test_sigint_is_ignored_where_the_test_ignores_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forked = python("-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT); print(1)")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, "1\n", "")


def test_a_warning_is_an_error_where_that_is_asked_for():
    code = "import warnings; warnings.warn('careful', DeprecationWarning)"
    assert python("-c", code).returncode == 0
    assert python("-W", "error", "-c", code).stderr.endswith("DeprecationWarning: careful\n")


def test_nothing_that_is_set_when_it_is_imported_is_there_and_what_is_there_is_shared():
    code = (
        "import os, sys; print('huggingface_hub' in sys.modules, 'torch' in sys.modules,"
        "'tts_provider.server.lifecycle' in sys.modules, len(os.listdir('/proc/self/fd')))"
    )
    # The three streams, and the folder that is being listed.
    assert python("-c", code).stdout == "False False True 4\n"
    code = "import onnxruntime; print(onnxruntime.SessionOptions().intra_op_num_threads)"
    assert python("-c", code).stdout == "0\n"


def test_what_python_reads_when_it_starts_starts_python():
    code = "import sys; print(sys.flags.utf8_mode, 'tts_provider' in sys.modules)"
    assert python("-c", code, env={**os.environ, "PYTHONUTF8": "1"}).stdout == "1 False\n"


async def test_asyncio_forks_too(tmp_path):
    (tmp_path / "told.py").write_text(
        "import os, sys; sys.stdout.write(sys.stdin.read());"
        "print(os.getsid(0) == os.getpid(), 'tts_provider.cli.main' in sys.modules); sys.exit(3)"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "told"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        start_new_session=True,
    )
    assert await process.communicate(b"heard ") == (b"heard True True\n", None)
    assert process.returncode == 3


def test_who_is_killed_is_replaced():
    os.kill(forks.server()._process.pid, signal.SIGKILL)
    forks.server()._process.wait()
    assert python("-c", "print(1)").stdout == "1\n"
