"""Runs a program of this folder in the environment that has its client's package."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from servers import PATIENCE_S, REPOSITORY

HERE = Path(__file__).parent
ENVIRONMENTS = REPOSITORY / ".venv" / "clients"
NEED_PYTHON_3_11 = ("pipecat", "livekit")


async def run_program(name: str, environment: str, *arguments: str) -> Any:
    """What the program prints, which is JSON."""
    folder = ENVIRONMENTS / environment
    if not (folder / "stamp").exists():
        pytest.skip(f"there is no environment for {environment}; `make clients` builds it")
    if sys.version_info < (3, 11) and environment in NEED_PYTHON_3_11:
        pytest.skip(f"{environment}'s pinned packages need Python 3.11")
    programs = "Scripts" if (folder / "Scripts").exists() else "bin"
    process = await asyncio.create_subprocess_exec(
        folder / programs / "python",
        HERE / f"{name}.py",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, log = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, log.decode()
    return json.loads(output)
