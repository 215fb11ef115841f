"""The CPU limit as the kernel writes it down, in both versions of cgroups."""

from pathlib import Path

import pytest

from inference.cpus import usable_cpus

MANY = "32"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "membership"


@pytest.mark.parametrize(("limit", "cpus"), [("50000 100000", 1), ("100000 100000", 1)])
def test_version_2_has_one_file(tmp_path: Path, membership: Path, limit: str, cpus: int) -> None:
    write(tmp_path / "cgroup/cpu.max", limit)
    assert usable_cpus(cgroups=tmp_path / "cgroup", membership=membership) == cpus


def test_the_tightest_limit_up_the_tree_holds(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/system.slice/a.service\n", encoding="utf-8")
    write(tmp_path / "cgroup/system.slice/cpu.max", "100000 100000\n")
    write(tmp_path / "cgroup/system.slice/a.service/cpu.max", "max 100000\n")
    assert usable_cpus(cgroups=tmp_path / "cgroup", membership=membership) == 1


def test_version_1_has_two_files(tmp_path: Path, membership: Path) -> None:
    membership.write_text("5:memory:/pod\n4:cpu,cpuacct:/pod\n", encoding="utf-8")
    write(tmp_path / "cgroup/cpu/pod/cpu.cfs_quota_us", "90000\n")
    write(tmp_path / "cgroup/cpu/pod/cpu.cfs_period_us", "100000\n")
    assert usable_cpus(cgroups=tmp_path / "cgroup", membership=membership) == 1


def test_without_a_limit_all_cpus_count(tmp_path: Path, membership: Path) -> None:
    unlimited = usable_cpus(cgroups=tmp_path / "none", membership=membership)
    write(tmp_path / "cgroup/cpu.max", "max 100000\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert usable_cpus(cgroups=tmp_path / "cgroup", membership=membership) == unlimited >= 1
