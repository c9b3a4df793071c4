"""A server that is stopped while its weights are prepared, and what is kept of them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forks import Program
from servers import PATIENCE_S, clean_environment, run_cli
from tts_provider.engines.csm.cpu.prepared import PreparedFolder
from tts_provider.engines.csm.cpu.weights import load_weights, prepared_key
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.kokoro.network.prepared import VERSION

from .small_csm import FOLDER

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")

# The layer that is in work takes until the process is ended, as a layer of the real model may.
SLOW = """
import atexit, gc, sys, threading
from tts_provider.engines.csm.cpu import weights
def endless(*_):
    print("in the middle of a layer", file=sys.stderr, flush=True)
    threading.Event().wait()
weights.quantize = endless
from tts_provider.cli.main import main
atexit.register(lambda: print(f"{gc.get_freeze_count()} are not looked at", file=sys.stderr))
sys.exit(main(sys.argv[1:]))
"""


def serve(tmp_path: Path, program: str, *flags: str) -> subprocess.Popen[str]:
    return Program(
        [
            *(sys.executable, "-c", program, "serve", "--host", "127.0.0.1", "--port", "0"),
            *("--engine", "csm", "--model-path", str(FOLDER), "--precision", "int8"),
            *("--device", "cpu", "--data-dir", str(tmp_path / "data"), *flags),
        ],
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"no line with {text!r}")


@pytest.mark.parametrize("flags", [(), ("--wait-for-model",)], ids=["open", "wait for the model"])
@pytest.mark.parametrize("where", ["in a layer", "waiting"])
def test_a_server_that_is_stopped_while_it_prepares_ends_well(tmp_path, flags, where):
    weights = tmp_path / "data" / "weights"
    if where == "in a layer":
        process = serve(tmp_path, SLOW, *flags)
        wait_for(process, "in the middle of a layer")
        assert list(weights.glob("*.tmp"))
        process.send_signal(signal.SIGTERM)
        # One that hangs is ended after the drain with 1.
        assert process.wait(PATIENCE_S) == 0
    else:
        plain = SLOW.replace("weights.quantize = endless", "")
        key = prepared_key(open_checkpoint(FOLDER), "int8")
        with PreparedFolder(weights).locked(key, print):
            process = serve(tmp_path, plain, *flags)
            wait_for(process, f"another process prepares the same weights in {weights}")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    rest = process.stderr.read()
    process.stderr.close()
    # The search for garbage at the end takes most of the time that there is, under load.
    frozen = re.search(r"(\d+) are not looked at", rest)
    assert frozen is not None
    assert int(frozen[1]) > 10_000
    assert "Traceback" not in rest
    assert "ERROR" not in rest
    assert not list(weights.glob("*.tmp"))
    assert not list(weights.glob("*.safetensors"))


def test_prune_keeps_what_the_model_of_the_settings_uses(tmp_path):
    data = tmp_path / "data"
    checkpoint = open_checkpoint(FOLDER)
    load_weights(checkpoint, "int8", data / "weights", print)
    own = data / "weights" / f"{prepared_key(checkpoint, 'int8')}.safetensors"
    for name in ("csm-int4-0123.safetensors", "csm-int8-4567.89.tmp"):
        (data / "weights" / name).write_bytes(bytes(2_000_000))
    for name in ("0123-v1", f"0123-v{VERSION}"):  # what Kokoro's engine has prepared
        (data / "kokoro" / name).mkdir(parents=True)
        (data / "kokoro" / name / "generator.onnx").write_bytes(bytes(1_000_000))
    flags = ("prune", "--data-dir", str(data))
    reply = run_cli(tmp_path, *flags)
    assert reply.returncode == 2
    assert "sesame/csm-1b is not in the Hugging Face cache" in reply.stderr
    assert "--all" in reply.stderr
    assert [path.name for path in (data / "kokoro").iterdir()] == [f"0123-v{VERSION}"]
    reply = run_cli(tmp_path, *flags, "--model-path", str(FOLDER))
    assert reply.returncode == 0, reply.stderr
    lines = reply.stdout.splitlines()
    assert re.fullmatch(r"removed .*csm-int4-0123\.safetensors, 2\.0 MB", lines[0])
    assert re.fullmatch(r"removed .*csm-int8-4567\.89\.tmp, 2\.0 MB", lines[1])
    assert lines[2].startswith("freed 4.0 MB; kept 1 file")
    assert own.is_file()
    reply = run_cli(tmp_path, *flags, "--all")
    assert not own.exists()
    assert reply.stdout.count("removed") == 2
    assert not list((data / "kokoro").iterdir())
