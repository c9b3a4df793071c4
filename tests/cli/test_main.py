"""The command line as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers import PATIENCE_S, REPOSITORY, clean_environment, run_cli, server_process
from tts_provider.cli.main import main
from tts_provider.server.lifecycle import bind


def test_help_reads_well(tmp_path):
    reply = run_cli(tmp_path, "--help")
    assert reply.returncode == 0
    for command in ("serve", "replica", "say", "voices", "doctor", "completion"):
        assert f"    {command} " in reply.stdout
    for flag in ("--host", "--port", "--mode", "--model-path", "--engine", "--api-key"):
        assert flag in run_cli(tmp_path, "serve", "--help").stdout


@pytest.mark.parametrize(
    "command", ["", "serve", "replica", "say", "voices", "voices add", "doctor", "completion"]
)
def test_help_fits_a_terminal(tmp_path, command):
    narrow = clean_environment(tmp_path, COLUMNS="80")
    lines = run_cli(tmp_path, *command.split(), "--help", env=narrow).stdout.splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_reads(tmp_path, shell):
    script = run_cli(tmp_path, "completion", shell).stdout
    for word in ("serve", "model-path", "espeak", "bfloat16", "stream"):
        assert word in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="install bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["serve", "--engine", ""], ["auto", "csm", "espeak"]),
        (["serve", "--mod"], ["--mode", "--model-path"]),
        (["voices", ""], ["list", "add", "remove", "check"]),
        (["say", "-o", "hello."], ["hello.txt"]),
    ],
)
def test_bash_completes(tmp_path, words, offered):
    (tmp_path / "hello.txt").touch()
    program = (
        'eval "$(cat script)"; name=$(complete -p tts-provider); name=${name##*-F }\n'
        'COMP_WORDS=(tts-provider "$@"); COMP_CWORD=$#; ${name%% *}; echo "${COMPREPLY[@]}"'
    )
    (tmp_path / "script").write_text(run_cli(tmp_path, "completion", "bash").stdout)
    command = ["bash", "-c", program, "bash", *words]
    reply = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(offered) <= set(reply.stdout.split()), reply.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import contextlib, io, sys, tts_provider.cli.main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as help:\n"
        "    tts_provider.cli.main.main(['--help'])\n"
        "print('serve' in help.getvalue(), *sys.modules)"
    )
    printed, *modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert printed == "True"
    assert not {"numpy", "pydantic", "fastapi", "uvicorn", "websockets", "rich", "shtab"} & set(
        modules
    )


@pytest.mark.parametrize("arguments", [[], ["serve", "--nope"], ["sing"], ["say"]])
def test_wrong_usage_exits_with_2(tmp_path, arguments):
    assert run_cli(tmp_path, *arguments).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--prot", "1"], "there is no --prot here; did you mean --port?"),
        (["say", "hi", "--sample-rates=8000"], "did you mean --sample-rate?"),
        (["serve", "--colour"], "there is no --colour here; see tts-provider serve --help"),
        (
            ["serve", "--max-turns", "3"],
            "--max-turns here; TTS_PROVIDER_MAX_TURNS in the environment or .env sets it",
        ),
        (["say", "hi", "--max-turns", "3"], "there is no --max-turns here; see"),
    ],
)
def test_an_unknown_flag_is_answered_with_a_close_name_or_none(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "csm"], "cannot reach"),
        (["--mode", "download"], "--mode reuse"),
        (["--mode", "reuse"], "--mode reuse needs the model's folder"),
        (["--model-path", "/nowhere"], "--model-path /nowhere does not exist"),
        (["--mode", "reuse", "--model-path", "empty"], "--model-path empty is empty"),
        (["--engine", "csm", "--device", "cuda"], "--device cuda is not available: "),
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
    assert "engine: hibari, because CSM-1B was not found" in reply.stdout
    assert "set HF_TOKEN" in reply.stdout


def test_doctor_knows_what_is_here(tmp_path):
    lines = facts(run_cli(tmp_path, "doctor").stdout)
    for name in ("Python", "onnxruntime", "torch", "av", "espeakng-loader", "CUDA"):
        assert lines[name], name
    assert lines["weights"] == "none found"
    assert lines["enrolled"] == "none"
    (tmp_path / "model").mkdir()
    missing = clean_environment(tmp_path, TTS_PROVIDER_MODEL_PATH="model", HF_TOKEN="secret")
    reply = run_cli(tmp_path, "doctor", env=missing).stdout
    assert "--model-path model is empty" in facts(reply)["--model-path"]
    assert "--model-path model is empty" in facts(reply)["next:"]
    assert "secret" not in reply


def test_doctor_opens_what_serve_opens(tmp_path):
    small = Path(__file__).parents[1] / "data" / "small-csm"
    environment = clean_environment(tmp_path, TTS_PROVIDER_MODEL_PATH=str(small))
    reply = facts(run_cli(tmp_path, "doctor", env=environment).stdout)
    assert reply["--model-path"].startswith(f"complete in {small}; voice prompts: none")
    assert reply["next:"].startswith("tts-provider serve, then open")
    folder = shutil.copytree(small, tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    quantized = config | {"quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / "config.json").write_text(json.dumps(quantized))
    environment["TTS_PROVIDER_MODEL_PATH"] = str(folder)
    reply = facts(run_cli(tmp_path, "doctor", env=environment).stdout)
    assert "holds weights quantized by bitsandbytes" in reply["--model-path"]
    assert reply["next:"] == reply["--model-path"]
    served = run_cli(tmp_path, "serve", "--port", "0", env=environment)
    assert served.returncode == 2
    assert served.stderr.strip().endswith(f"tts-provider: {reply['next:']}")


def test_doctor_knows_whose_the_port_is(tmp_path):
    def doctor(port: int) -> dict[str, str]:
        environment = clean_environment(
            tmp_path, TTS_PROVIDER_HOST="127.0.0.1", TTS_PROVIDER_PORT=str(port)
        )
        return facts(run_cli(tmp_path, "doctor", env=environment).stdout)

    assert doctor(0)["port"] == "free"
    with server_process(tmp_path, "--engine", "espeak") as server:
        lines = doctor(server.port)
        assert lines["port"].startswith("taken by a running tts-provider ")
        assert "a server runs already" in lines["next:"]
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        port = listener.getsockname()[1]
        listener.listen()
        listener.settimeout(PATIENCE_S)
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(doctor, port)
            for _ in range(2):  # a look, then a question
                listener.accept()[0].close()
            assert asking.result()["port"] == "taken by another program"


def facts(report: str) -> dict[str, str]:
    """The lines of a report by their first word or words."""
    pairs = [
        re.split(r"  +|(?<=^next:) ", line.strip(), maxsplit=1) for line in report.splitlines()
    ]
    return {pair[0]: pair[-1] for pair in pairs}
