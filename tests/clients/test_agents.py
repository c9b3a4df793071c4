"""Agent frameworks' OpenAI voices, pointed at this server; each in an environment of its own,
because they and we need different versions of the same packages. `make test` builds them."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path

import pytest

from ears import hear_digits, median_pitch_hz
from servers import PATIENCE_S, REPOSITORY, running_server
from tts_provider.audio.pcm import from_s16

HERE = Path(__file__).parent
ENVIRONMENTS = REPOSITORY / ".venv" / "clients"
DIGITS = ["two", "one", "four"]


async def speak_with(name: str, server, *arguments: str) -> dict:
    environment = ENVIRONMENTS / name
    if not (environment / "stamp").exists():
        pytest.skip(f"there is no environment for {name}; `make clients` builds it")
    if sys.version_info < (3, 11):
        pytest.skip(f"{name}'s pinned packages need Python 3.11")
    folder = "Scripts" if (environment / "Scripts").exists() else "bin"
    process = await asyncio.create_subprocess_exec(
        environment / folder / "python",
        HERE / f"{name}_client.py",
        f"http://127.0.0.1:{server.port}/v1",
        " ".join(DIGITS),
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


def hear(report: dict) -> float:
    """The median pitch of what must be the digits."""
    assert (report["errors"], report["sample_rates"]) == ([], [24_000])
    samples = from_s16(base64.b64decode(report["audio"]))
    assert hear_digits(samples) == DIGITS
    return median_pitch_hz(samples)


@pytest.mark.parametrize(("voice", "is_woman"), [("marin", True), ("cedar", False)])
async def test_pipecat(voice, is_woman):
    async with running_server() as server:
        report = await speak_with("pipecat", server, voice)
        assert (hear(report) > 150) == is_woman


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_livekit(model):
    async with running_server() as server:
        report = await speak_with("livekit", server, "ash", model)
        assert hear(report) < 150
