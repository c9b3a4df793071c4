"""Quotas of control groups, in folders as /proc and /sys/fs/cgroup show them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tts_provider.config import Settings
from tts_provider.cpus import available_cpus, cpu_quota
from tts_provider.engines.csm.build import _threads


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V1 = "cpu/{}cpu.cfs_quota_us", "cpu/{}cpu.cfs_period_us"
TWO, THREE = "200000 100000\n", "300000 100000\n"


@pytest.mark.parametrize(
    ("groups", "root", "files", "cpus"),
    [
        ("0::/\n", "/", {}, sys.maxsize),
        ("0::/\n", "/", {"cpu.max": "max 100000\n"}, sys.maxsize),
        ("0::/\n", "/", {"cpu.max": TWO}, 2),
        ("0::/\n", "/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", "/", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", "/", {"cpu.max": "?\n"}, sys.maxsize),
        # A systemd unit with CPUQuota=, and a slice above it with less.
        ("0::/system.slice/tts.service\n", "/", {"system.slice/tts.service/cpu.max": THREE}, 3),
        (
            "0::/system.slice/tts.service\n",
            "/",
            {"system.slice/tts.service/cpu.max": THREE, "system.slice/cpu.max": TWO},
            2,
        ),
        (
            "0::/system.slice/tts.service\n",
            "/",
            {"system.slice/tts.service/cpu.max": TWO, "system.slice/cpu.max": "max 100000\n"},
            2,
        ),
        ("0::/a/b\n", "/", {"a/c/cpu.max": TWO}, sys.maxsize),  # somebody else's
        # A container without a namespace of its own sees its group as the root.
        ("0::/docker/1234\n", "/docker/1234", {"cpu.max": TWO}, 2),
        ("0::/docker/1234/x\n", "/docker/1234", {"x/cpu.max": TWO}, 2),
        ("0::/docker/12345\n", "/docker/1234", {"cpu.max": TWO, "5/cpu.max": THREE}, 2),
        ("0::/../other\n", "/", {"cpu.max": TWO}, 2),
        # Version 1, alone and beside version 2.
        ("4:cpu,cpuacct:/\n", "/", {V1[0].format(""): "-1", V1[1].format(""): "1000"}, sys.maxsize),
        ("4:cpu,cpuacct:/\n", "/", {V1[0].format(""): "3000", V1[1].format(""): "1000"}, 3),
        ("4:cpu:/a/b\n", "/", {V1[0].format("a/"): "2000", V1[1].format("a/"): "1000"}, 2),
        (
            "4:cpu:/a/b\n0::/unit\n",
            "/",
            {V1[0].format("a/b/"): "4000", V1[1].format("a/b/"): "1000", "unit/cpu.max": THREE},
            3,
        ),
        (
            "5:cpuset:/a\n",
            "/",
            {V1[0].format("a/"): "2000", V1[1].format("a/"): "1000"},
            sys.maxsize,
        ),
        ("nonsense\n", "/", {"cpu.max": TWO}, sys.maxsize),
    ],
)
def test_a_quota_counts_as_its_cpus(tmp_path, groups, root, files, cpus):
    place = tmp_path / "a mount"
    write(place, files)
    shown = str(place).replace(" ", "\\040")
    mounts = (
        "22 1 0:20 / /proc rw,relatime - proc proc rw\n"
        f"31 22 0:27 {root} {shown} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        f"33 22 0:29 {root} {shown}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"34 22 0:30 / {shown}/memory rw - cgroup cgroup rw,memory\n"
        "damaged\n"
    )
    write(tmp_path, {"self/cgroup": groups, "self/mountinfo": mounts})
    assert cpu_quota(tmp_path / "self") == cpus


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path) == sys.maxsize


def test_there_is_at_least_one():
    assert available_cpus() >= 1


def test_a_setting_of_threads_above_the_cpus_is_told(caplog):
    cpus = available_cpus()
    assert _threads(Settings(threads=cpus)) == _threads(Settings()) == cpus
    assert not caplog.messages
    assert _threads(Settings(threads=cpus + 1)) == cpus + 1
    assert caplog.messages == [
        f"--threads {cpus + 1} is more than the {cpus} CPUs that this process may use, "
        "and is not faster"
    ]
