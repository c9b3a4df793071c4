"""The command line as a user meets it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from servers import REPOSITORY, clean_environment, run_cli, server_process
from tts_provider.server.lifecycle import bind


def test_help_reads_well(tmp_path):
    reply = run_cli(tmp_path, "--help")
    assert reply.returncode == 0
    for command in ("serve", "say", "doctor"):
        assert f"    {command} " in reply.stdout
    for flag in ("--host", "--port", "--mode", "--model-path", "--engine", "--api-key"):
        assert flag in run_cli(tmp_path, "serve", "--help").stdout


def test_help_imports_nothing_heavy():
    code = "import sys, tts_provider.cli; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pydantic", "fastapi", "uvicorn", "websockets", "rich"} & set(modules)


@pytest.mark.parametrize("arguments", [[], ["serve", "--nope"], ["sing"], ["say"]])
def test_wrong_usage_exits_with_2(tmp_path, arguments):
    assert run_cli(tmp_path, *arguments).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "csm"], "cannot reach"),
        (["--mode", "download"], "--mode reuse"),
        (["--mode", "reuse"], "--mode reuse needs the model's folder"),
        (["--model-path", "/nowhere"], "--model-path /nowhere does not exist"),
        (["--mode", "reuse", "--model-path", "empty"], "--model-path empty is empty"),
        (["--engine", "csm", "--device", "cuda"], "--device cuda cannot be had: "),
        (["--engine", "csm", "--precision", "bfloat16"], "--precision bfloat16 needs CUDA"),
        (["--port", "http"], "--port is 'http'"),
        (["--data-dir", "/dev/null/data"], "cannot write to the data folder"),
    ],
)
def test_what_the_server_cannot_start_with_is_one_sentence(tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    offline = clean_environment(tmp_path, HF_ENDPOINT="http://127.0.0.1:1")
    reply = run_cli(tmp_path, "serve", *arguments, env=offline)
    assert reply.returncode == 2
    assert message in reply.stderr.splitlines()[-1]
    assert "Traceback" not in reply.stderr


def test_a_broken_env_file_and_a_taken_port(tmp_path):
    (tmp_path / ".env").write_text("this is not a setting\n")
    reply = run_cli(tmp_path, "serve")
    assert (reply.returncode, ".env line 1" in reply.stderr) == (2, True)
    (tmp_path / ".env").unlink()
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        listener.listen()
        port = str(listener.getsockname()[1])
        reply = run_cli(tmp_path, "serve", "--host", "127.0.0.1", "--port", port)
    assert reply.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in reply.stderr.splitlines()[-1]
    assert "Traceback" not in reply.stderr


def test_the_env_file_of_the_seed(tmp_path):
    (tmp_path / ".env").write_text("HF_TOKEN=your_token\nHF_HOME=D:/Dev/Models/huggingface\n")
    with server_process(tmp_path, "--engine", "espeak") as server:
        server.terminate()
        assert server.wait() == 0


def test_run_server_takes_the_seeds_flags(tmp_path):
    command = [sys.executable, str(REPOSITORY / "run_server.py"), "--help"]
    reply = subprocess.run(
        command, capture_output=True, text=True, check=True, env=clean_environment(tmp_path)
    )
    for flag in ("--host", "--port", "--mode", "--model-path"):
        assert flag in reply.stdout


def test_doctor_says_which_engine_and_what_next(tmp_path):
    snapshot = tmp_path / ".cache/huggingface/hub/models--sesame--csm-1b/snapshots/abc"
    snapshot.mkdir(parents=True)
    reply = run_cli(tmp_path, "doctor")
    assert reply.returncode == 0, reply.stderr
    assert "engine: csm, because" in reply.stdout
    assert "next:" in reply.stdout
    assert str(snapshot) in reply.stdout
    shutil.rmtree(snapshot)
    reply = run_cli(tmp_path, "doctor")
    assert "engine: espeak, because CSM-1B is not here" in reply.stdout
    assert "set HF_TOKEN" in reply.stdout
