"""Every command and program in the documentation runs."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from docs.markdown import all_blocks
from docs.workspace import Workspace, node
from servers import server_process

BLOCKS = all_blocks()
# Files, drawings and output: nothing to run. tests/docs/test_deploy.py tries the servers' files.
NOT_PROGRAMS = {"", "text", "yaml"}


@pytest.fixture(scope="module", name="port")
def start_server(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("server"), "--engine", "espeak") as server:
        yield server.port


@pytest.fixture(scope="module", name="workspaces")
def make_workspaces(tmp_path_factory, port):
    """One for each page: its commands follow one another."""
    made: dict[str, Workspace] = {}

    def find(page: str) -> Workspace:
        if page not in made:
            made[page] = Workspace(tmp_path_factory.mktemp("clone"), port)
        return made[page]

    return find


def of(*languages: str):
    chosen = [block for block in BLOCKS if block.language in languages and not block.not_run]
    return pytest.mark.parametrize("block", chosen, ids=str)


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a Unix shell")
@of("bash", "sh")
def test_a_command(block, workspaces):
    for program in ("make", "curl"):
        if program in block.text and shutil.which(program) is None:
            pytest.skip(f"install {program}")
    workspace = workspaces(block.page)
    workspace.run("bash", "-euo", "pipefail", "-c", workspace.here(block.text))


@of("python")
def test_a_python_program(block, workspaces):
    workspace = workspaces(block.page)
    workspace.run(sys.executable, "-W", "error", workspace.write("snippet.py", block.text))


@of("js")
def test_a_javascript_program(block, workspaces):
    command = node()
    if command is None:
        pytest.skip("install Node 20 or later")
    workspace = workspaces(block.page)
    workspace.run(*command, workspace.write("snippet.mjs", block.text))


@of("json")
def test_json_is_json(block):
    json.loads(block.text)


def test_what_is_not_run_says_why():
    for block in BLOCKS:
        if block.not_run is not None:
            assert len(block.not_run.split()) >= 3, f"{block}: {block.not_run!r}"
            assert block.language not in NOT_PROGRAMS, f"{block} is no program"
        assert block.language in {"bash", "sh", "python", "js", "json", *NOT_PROGRAMS}, str(block)
