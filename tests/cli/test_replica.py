"""A replica ends in time, whatever its engine hangs in."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from forks import Program
from servers import PATIENCE_S, clean_environment
from tts_provider.cli.replica import run_replica
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import EngineFailed

HANGS = """
import asyncio, sys
from tts_provider.cli import main, replica
from tts_provider.engines.espeak import engine as espeak

async def close(self):
    await asyncio.Event().wait()

espeak.EspeakEngine.close = close
replica._CLOSE_TIMEOUT_S = 0
sys.exit(main.main(["replica", "--engine", "espeak", "--host", "127.0.0.1", "--port", "0"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_engine_that_hangs_does_not_hold_the_process_up(tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    process = Program(
        [sys.executable, str(tmp_path / "hangs.py")],
        cwd=tmp_path,
        env=clean_environment(tmp_path, TTS_PROVIDER_DRAIN_TIMEOUT_S="0"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr)
        assert any("ready: engine espeak" in line for line in lines)
        process.send_signal(signal.SIGTERM)
        log = list(lines)
        assert process.wait(PATIENCE_S) == 1
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert "the server did not stop in time and is killed" in log[-1]


async def test_an_engine_that_is_lost_ends_the_process_for_its_supervisor(monkeypatch, caplog):
    class Losing(EspeakEngine):
        problem = None

        async def wait_lost(self) -> None:
            self.problem = EngineFailed("the GPU stopped working: CUDA error")

    patience = []
    monkeypatch.setattr("tts_provider.cli.replica.end_in_time", patience.append)
    settings = Settings(host="127.0.0.1", port=0, drain_timeout_s=9, _env_file=None)
    assert await asyncio.wait_for(run_replica(Losing(), settings), PATIENCE_S) == 1
    assert "the GPU stopped working: CUDA error; this process ends" in caplog.text
    assert len(patience) == 1, "and in time, should what is lost hang when it is given back"
    assert patience[0] > 9, "what is spoken has its time first"
