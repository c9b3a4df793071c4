"""The GPU benchmark runs from end to end; what it measures on cpu means nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from servers import REPOSITORY


@pytest.mark.slow("10 s: every part of the benchmark for CUDA runs, on the CPU and at toy size")
def test_the_smoke_run_goes_through_every_part(tmp_path):
    report_path = tmp_path / "report.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "csm_cuda.py"), "--smoke"]
    run = subprocess.run(
        [*command, "--json", str(report_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("cpu smoke run, not a measurement")
    report = json.loads(report_path.read_text())
    assert report["smoke"]
    assert report["parity"]["equal"]
    assert [row["batch"] for row in report["frames"]] == [1, 2]
    assert report["frames"][0]["compiled"] is not None
    assert len(report["first_audio_ms"]) == 4
    assert len(report["listeners"]) == 2
