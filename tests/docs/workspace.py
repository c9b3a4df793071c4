"""A folder in which the documentation's commands run as they are written.

It looks like a clone with an environment in it. What would take the network, a loudspeaker or the
documented port is replaced: `make` only says what it would do, a player plays nothing, and servers
that are started take a free port and stop when they are ready.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import recordings
from servers import PATIENCE_S, REPOSITORY, clean_environment

SERVE_ONCE = Path(__file__).with_name("serve_once.py")

_TOOLS = {
    "tts-provider": """\
case "$1" in
  serve) shift; exec {python} {serve_once} "$@" ;;
  say | book)
    command="$1"; shift
    exec {python} -m tts_provider "$command" --url ws://127.0.0.1:{port} "$@" ;;
  *) exec {python} -m tts_provider "$@" ;;
esac
""",
    "python": """\
case "$1" in
  run_server.py) shift; exec {python} {serve_once} "$@" ;;
  *) exec {python} "$@" ;;
esac
""",
    "make": 'exec {make} --dry-run --directory {repository} "$@"\n',
    # As it is written it would print an error and be content.
    "curl": 'exec {curl} --fail-with-body --silent --show-error "$@"\n',
    "aplay": "exec cat > /dev/null\n",
}


def node() -> tuple[str, ...] | None:
    """The command for a Node that has a WebSocket: 22 by itself, 20 and 21 when asked."""
    path = shutil.which("node")
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.lstrip("v").split(".")[0])
    if major < 20:
        return None
    return (path,) if major >= 22 else (path, "--experimental-websocket")


class Workspace:
    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        tools = folder / ".venv" / "bin"
        tools.mkdir(parents=True)
        places = {
            "python": sys.executable,
            "serve_once": SERVE_ONCE,
            "port": port,
            "make": shutil.which("make"),
            "curl": shutil.which("curl"),
            "repository": REPOSITORY,
        }
        for name, script in _TOOLS.items():
            path = tools / name
            path.write_text("#!/bin/sh\n" + script.format(**places))
            path.chmod(0o755)
        (tools / "activate").write_text(f'export PATH="{tools}:$PATH"\n')
        # "What she says, word for word."
        speech = recordings.speech("female")[: 24_000 * 4]
        (folder / "anna.m4a").write_bytes(recordings.encode(speech, "m4a"))
        shutil.copy(REPOSITORY / ".env.template", folder)
        (folder / "tests").symlink_to(REPOSITORY / "tests")
        self._environment = clean_environment(
            folder, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}"
        )

    def run(self, *command: str, text: str | None = None) -> str:
        """What a command wrote to stdout. Its exit code is 0."""
        reply = subprocess.run(
            command,
            input=text,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert reply.returncode == 0, f"{reply.returncode}: {reply.stdout}{reply.stderr}"
        return reply.stdout

    def here(self, text: str) -> str:
        """With this server's address instead of the documented one."""
        return re.sub(r"\blocalhost:8765\b", f"127.0.0.1:{self._port}", text)

    def write(self, name: str, text: str) -> str:
        (self._folder / name).write_text(self.here(text), "utf-8")
        return name
