"""CSM-1B on a GPU that is lent for minutes: everything there is to ask it, one stage a process.

    python benchmarks/csm_cuda.py [--out FOLDER] [--minutes 7] [--stages frames,profile]
    python benchmarks/csm_cuda.py --smoke        every stage on the CPU with a toy, no measurement

It needs this repository, NumPy and PyTorch; what a stage needs beyond that it says, and is skipped.
FOLDER (default: $OUT, else the current folder) gets report.jsonl, a line at once for each thing
that is found and one for the end of each stage: ok, failed, skipped or out of time. A stage that
fails or hangs costs its own limit at most, and the next one runs. What no time is left for is
listed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Stage:
    name: str
    limit_s: float
    command: Sequence[str]


# In this order: what says most for its time comes first. Seven minutes in all, 420 s: no stage has
# less time because an earlier one took all of its own.
LIMITS_S = {
    "versions": 30,
    "micro": 25,
    "frames": 50,
    "parity": 30,
    "memory": 30,
    "company": 35,
    "nodes": 20,
    "profile": 25,
    "first_audio": 30,
    "listeners": 50,
    "tests": 20,
    "small_cards": 35,
    "peers": 40,
}


class Report:
    """Lines of JSON, on the disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **line: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def run(
    stages: Sequence[Stage],
    report: Report,
    deadline_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """One stage after the other until `deadline_s` on the clock; returns how many failed."""
    failed = 0
    for stage in stages:
        left_s = deadline_s - clock()
        if left_s < min(10.0, stage.limit_s):
            report.add(stage=stage.name, end="skipped", why=f"{max(0.0, left_s):.0f} s are left")
            continue
        print(f"{stage.name} …", flush=True)
        began_s = clock()
        end, error = _run_one(stage, min(stage.limit_s, left_s))
        failed += end in ("failed", "out of time")
        seconds = round(clock() - began_s, 1)
        report.add(
            stage=stage.name, end=end, seconds=seconds, **({"error": error} if error else {})
        )
        print(f"{stage.name}: {end}, {seconds} s {error[-300:]}", flush=True)
    return failed


def _run_one(stage: Stage, limit_s: float) -> tuple[str, str]:
    try:
        done = subprocess.run(
            stage.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return "out of time", (late.stderr or b"").decode(errors="replace")[-2000:]
    except OSError as error:
        return "failed", str(error)
    told = done.stderr.decode(errors="replace")[-2000:]
    if done.returncode == SKIPPED:
        return "skipped", told.strip().splitlines()[-1] if told.strip() else ""
    return ("ok", "") if done.returncode == 0 else ("failed", told)


SKIPPED = 77
_SMOKE_PATIENCE = 5
"""A CPU that others use too takes so many times a limit at most."""


def stages(names: Sequence[str], report: Path, *, smoke: bool) -> list[Stage]:
    script = str(HERE / "csm_cuda_stages.py")
    flags, patience = (["--smoke"], _SMOKE_PATIENCE) if smoke else ([], 1)
    return [
        Stage(name, patience * LIMITS_S[name], [sys.executable, script, name, str(report), *flags])
        for name in names
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument(
        "--stages", default=",".join(LIMITS_S), help="some of the default, in order"
    )
    parser.add_argument("--smoke", action="store_true", help="a toy on the CPU: no measurement")
    arguments = parser.parse_args()
    names = arguments.stages.split(",")
    if unknown := [name for name in names if name not in LIMITS_S]:
        parser.error(f"no stage {unknown[0]!r}; there are {', '.join(LIMITS_S)}")
    report = Report(arguments.out / "report.jsonl")
    report.add(stage="begin", smoke=arguments.smoke, stages=names, minutes=arguments.minutes)
    patience = _SMOKE_PATIENCE if arguments.smoke else 1
    deadline_s = time.monotonic() + 60 * patience * arguments.minutes
    failed = run(stages(names, report.path, smoke=arguments.smoke), report, deadline_s)
    report.add(stage="end", failed=failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
