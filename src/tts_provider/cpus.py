"""How many CPUs this process may use: where it may run, and what control groups leave it; and how a
thread leaves them to others.

A quota binds whoever is in its group or in one below, so the groups are followed upwards from this
process's own, `/proc/self/cgroup`, in both versions: a container has its quota at the root of what
it sees, a systemd unit with `CPUQuota=` in a group below. `mountinfo` says where they are mounted.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_PROCESS = Path("/proc/self")
_LEAST_PRIORITY = 19  # 1.5 % of a core that others want, by Linux's weights


def available_cpus() -> int:
    """At least 1; a quota of 1.5 is 2."""
    limit = cpu_quota()
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), limit)
    return min(os.cpu_count() or 1, limit)


def give_way() -> None:
    """From now on this thread computes when no other thread wants the CPU. On Linux only, where a
    thread has a priority of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)


def cpu_quota(process: Path = _PROCESS) -> int:
    """The least quota of the groups that a process is in, rounded up; `sys.maxsize` where it has
    none. `process` is its folder in /proc."""
    quotas = [_quota(group) for top, path in _groups(process) for group in _upwards(top, path)]
    return min(quotas, default=sys.maxsize)


def _groups(process: Path) -> Iterator[tuple[Path, str]]:
    """Where groups that bound CPU time are mounted, and the process's own below it."""
    mounts = list(_mounts(process / "mountinfo"))
    for line in _lines(process / "cgroup"):
        _, controllers, path = [*line.split(":", 2), "none", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for kind, root, top in mounts:
            if kind == ("cgroup" if controllers else "cgroup2"):
                # A mount may show the groups from `root` on only. Of what is not below it the top
                # is all that can be seen.
                root = root.rstrip("/")
                is_below = path == root or path.startswith(f"{root}/")
                yield top, path.removeprefix(root) if is_below else "/"


def _mounts(mountinfo: Path) -> Iterator[tuple[str, str, Path]]:
    """Type, root and place of each mounted hierarchy that may bound CPU time (proc(5))."""
    for line in _lines(mountinfo):
        fields, _, rest = line.partition(" - ")
        _, _, _, root, place, *_ = [*fields.split(), *[""] * 5]
        kind, _, options = [*rest.split(), "", "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield kind, _unescape(root), Path(_unescape(place))


def _unescape(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """The group and all that it is in; with `..` in its path it is not below this mount."""
    names = [name for name in path.split("/") if name]
    if ".." in names:
        names = []
    for count in range(len(names), -1, -1):
        yield top.joinpath(*names[:count])


def _quota(group: Path) -> int:
    quota, period = 0.0, 1.0
    with contextlib.suppress(OSError, ValueError):  # `max`, where there is no limit
        quota, period = map(float, (group / "cpu.max").read_text().split())
    with contextlib.suppress(OSError, ValueError):
        quota = float((group / "cpu.cfs_quota_us").read_text())
        period = float((group / "cpu.cfs_period_us").read_text())
    return math.ceil(quota / period) if quota > 0 and period > 0 else sys.maxsize


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
