"""Runs `tts-provider serve …` as the documentation has it, but on a free port of the loopback, and
stops it when it is ready."""

from __future__ import annotations

import subprocess
import sys

command = [sys.executable, "-m", "tts_provider", "serve", *sys.argv[1:]]
process = subprocess.Popen(
    [*command, "--host", "127.0.0.1", "--port", "0"], stderr=subprocess.PIPE, text=True
)
assert process.stderr is not None
for line in process.stderr:
    sys.stderr.write(line)
    if " ready: " in line:
        process.terminate()
sys.exit(process.wait())
