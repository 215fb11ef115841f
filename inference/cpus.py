"""How many CPUs this process may use; ONNX Runtime and Python count the machine's instead."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(*, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the CPU limit of the cgroup (v2, then v1), rounded up, or the count of CPUs."""
    counted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = [limit for folder in _folders(cgroups, membership) if (limit := _limit(folder))]
    return max(1, min([counted or 1, *(math.ceil(limit) for limit in limits)]))


def _folders(cgroups: Path, membership: Path) -> list[Path]:
    """List the process's cgroup and those above it: the tightest limit holds."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    folders = [cgroups, cgroups / "cpu"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = cgroups / "cpu" if "cpu" in controllers.split(",") else cgroups
        own = Path(path.lstrip("/"))
        folders += [top / part for part in (own, *own.parents)]
    return folders


def _limit(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
    except OSError:
        return None
    # `max` in v2 and -1 in v1 say that there is no limit.
    return None if quota in {"max", "-1"} else int(quota) / int(period)
