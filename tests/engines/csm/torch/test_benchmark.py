"""The GPU benchmark runs from end to end; what it measures on a CPU means nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from servers import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
sys.path.append(str(BENCHMARKS))
import csm_cuda  # noqa: E402

NAMES = list(csm_cuda.LIMITS_S)
# A lent machine has PyTorch, and none of these.
MISSING = ("pydantic", "pydantic_settings", "av", "websockets", "platformdirs", "prometheus_client")


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def ends(path) -> dict[str, str]:
    return {line["stage"]: line["end"] for line in lines(path) if "end" in line}


def stage(name: str, code: str = "pass", limit_s: float = 20) -> csm_cuda.Stage:
    return csm_cuda.Stage(name, limit_s, [sys.executable, "-S", "-c", code])


FAULTS = {
    "an exception": ("raise RuntimeError('broken')", "failed", "broken"),
    "a crash": ("import os; os.abort()", "failed", ""),
    "what is missing": (
        "import sys; print('no pytest', file=sys.stderr); sys.exit(77)",
        "skipped",
        "",
    ),
    "a hang": ("import time; print(1); time.sleep(600)", "out of time", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("broken", [0, 1, len(NAMES) - 1])
def test_a_stage_that_fails_costs_no_other(tmp_path, fault, broken):
    code, end, told = FAULTS[fault]
    report = csm_cuda.Report(tmp_path / "report.jsonl")
    names = [NAMES[0], NAMES[1], NAMES[-1]]
    broken = min(broken, 2)
    stages = [stage(name) for name in names]
    stages[broken] = stage(names[broken], code, limit_s=0.5 if fault == "a hang" else 20)
    failed = csm_cuda.run(stages, report, time.monotonic() + 1000)
    assert ends(report.path) == {n: end if i == broken else "ok" for i, n in enumerate(names)}
    assert failed == (end != "skipped")
    found = next(line for line in lines(report.path) if line["stage"] == names[broken])
    assert told in found.get("error", "")


def test_a_program_that_is_not_there_is_a_stage_that_fails(tmp_path):
    report = csm_cuda.Report(tmp_path / "report.jsonl")
    gone = csm_cuda.Stage("gone", 5, [str(tmp_path / "nothing")])
    assert csm_cuda.run([gone, stage("next")], report, time.monotonic() + 1000) == 1
    assert ends(report.path) == {"gone": "failed", "next": "ok"}


def test_what_no_time_is_left_for_is_listed(tmp_path):
    # Asked before each stage, and when it begins and ends.
    report, now = csm_cuda.Report(tmp_path / "report.jsonl"), iter([0.0, 0.0, 91.0, 91.0, 91.0])
    stages = [stage("one"), stage("two"), stage("three")]
    assert csm_cuda.run(stages, report, 100.0, clock=lambda: next(now)) == 0
    assert ends(report.path) == {"one": "ok", "two": "skipped", "three": "skipped"}


def test_all_stages_together_take_seven_minutes_at_most():
    """And the comparison with others ends by itself within its own limit."""
    assert sum(csm_cuda.LIMITS_S.values()) <= 7 * 60
    stages = (BENCHMARKS / "csm_cuda_stages.py").read_text("utf-8")
    (minutes,) = re.findall(r'"--minutes", "([\d.]+)"', stages)
    assert 60 * float(minutes) < csm_cuda.LIMITS_S["peers"]


def test_every_stage_is_there_and_only_they(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "csm_cuda.py"), "--out", str(tmp_path)]
    run = subprocess.run([*script, "--stages", "frames,nap"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "no stage 'nap'; there are versions, micro, frames" in run.stderr
    built = csm_cuda.stages(NAMES, tmp_path / "r", smoke=True)
    assert [each.command[2] for each in built] == NAMES
    assert all(each.command[-1] == "--smoke" for each in built)


def test_a_lent_machine_has_all_that_the_stages_import(tmp_path):
    """One stage runs whole, the others' code is imported with it."""
    blocked = f"""
import sys, runpy
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
script = {str(BENCHMARKS / "csm_cuda_stages.py")!r}
sys.argv = [script, "parity", {str(tmp_path / "report.jsonl")!r}, "--smoke"]
runpy.run_path(script, run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert lines(tmp_path / "report.jsonl")[-1]["greedy_codes_equal"] == 32


def test_the_random_codec_is_the_published_one():
    import torch
    import transformers

    from engines.csm.torch.test_device import mimi_config_of_shapes, published_mimi
    from random_csm import MIMI, codec_shapes

    with torch.device("meta"):
        model = transformers.MimiModel(transformers.MimiConfig(num_quantizers=32))
    assert mimi_config_of_shapes(model) == MIMI
    published = {
        name: tuple(tensor.shape)
        for name, tensor in published_mimi(model)._tensors.items()
        if not name.endswith((".initialized", ".codebook.embed"))
    }
    assert dict(codec_shapes(MIMI)) == published


@pytest.mark.slow("2 min: every stage of the benchmark for CUDA runs, on the CPU and at toy size")
def test_the_smoke_run_goes_through_every_stage(tmp_path):
    names = [name for name in NAMES if name not in ("peers", "tests")]
    command = [sys.executable, str(BENCHMARKS / "csm_cuda.py"), "--smoke", "--out", str(tmp_path)]
    run = subprocess.run([*command, "--stages", ",".join(names)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    found = lines(tmp_path / "report.jsonl")
    assert ends(tmp_path / "report.jsonl") == dict.fromkeys(names, "ok")
    assert [line["batch"] for line in found if "rtf" in line] == [1, 2]
    assert len([line for line in found if "underruns" in line]) == 4


@pytest.mark.slow("10 s: the comparison with transformers, on the CPU and at toy size")
def test_the_smoke_run_of_the_peers(tmp_path):
    report_path = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARKS / "csm_cuda_peers.py"), "--smoke"]
    run = subprocess.run(
        [*command, "--json", str(report_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(report_path.read_text())
    assert report["parity"]["equal"]
    assert [row["batch"] for row in report["frames"]] == [1, 2]
    assert len(report["listeners"]) == 2
