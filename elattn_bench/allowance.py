"""What the system lets this process use: CPUs by affinity, CPU time and memory by control groups. No torch.

A control group's limit holds for all groups below it (cgroups(7)), so the least on the way from the
process's own group to the root counts. Both versions are read: a container may see either, or both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from elattn_bench.units import Bytes

PROC = Path("/proc/self")
_NO_LIMIT: Bytes = 2**62  # version 1 writes a number above this where there is no limit


def cpus(proc: Path = PROC) -> frozenset[int]:
    """Numbers of the CPUs that this process may run on: those that any of its threads may."""
    # OpenMP can pin the main thread to one CPU; the other threads then have the others.
    allowed: set[int] = set()
    with contextlib.suppress(OSError, AttributeError):
        for thread in (proc / "task").iterdir():
            with contextlib.suppress(OSError):
                allowed |= os.sched_getaffinity(int(thread.name))
    return frozenset(allowed or range(psutil.cpu_count() or 1))


def cpu_quota(proc: Path = PROC) -> float | None:
    """How many CPUs' worth of time the container may use; None where it has no quota."""
    quotas = [quota for group in _groups(proc) if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def memory_limit(proc: Path = PROC) -> Bytes | None:
    """Memory that the container may use; None where it has no limit."""
    limits = [limit for group in _groups(proc) if (limit := _memory_limit(group)) is not None]
    return min(limits, default=None)


def memory_left(proc: Path = PROC) -> Bytes | None:
    """What the container may still take before its limit; None where it has none."""
    left = [
        limit - _working_set(group) for group in _groups(proc) if (limit := _memory_limit(group)) is not None
    ]
    return max(0, min(left)) if left else None


def quota_periods(proc: Path = PROC) -> Mapping[Path, tuple[int, int]]:
    """Per group with a CPU quota: its periods so far, and those in which the quota ran out."""
    counts = {}
    for group in _groups(proc):
        stat = _table(group / "cpu.stat")
        if stat.get("nr_periods"):
            counts[group] = (stat["nr_periods"], stat.get("nr_throttled", 0))
    return counts


def exhausted_share(before: Mapping[Path, tuple[int, int]], after: Mapping[Path, tuple[int, int]]) -> float:
    """Share of the quota's periods between two readings in which it ran out; 0 without a quota."""
    shares = [0.0]
    for group, (periods, exhausted) in after.items():
        periods_before, exhausted_before = before.get(group, (0, 0))
        if periods > periods_before:
            shares.append((exhausted - exhausted_before) / (periods - periods_before))
    return max(shares)


def _groups(proc: Path) -> Iterator[Path]:
    """Directories of all control groups that the process is in, from its own up to the root of each."""
    mounts = _mounts(proc)
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for mount in mounts:
                if mount.holds(controllers):
                    yield from _upwards(path, mount)


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy: its version, its options, and which group its directory shows.

    Version 1 names its controllers among the options; version 2 has all in one hierarchy.
    """

    is_v2: bool
    options: frozenset[str]
    root: str
    directory: Path

    def holds(self, controllers: str) -> bool:
        """Whether a line of /proc/self/cgroup with these controllers, none for version 2, is about it."""
        return (
            self.is_v2 if not controllers else not self.is_v2 and set(controllers.split(",")) <= self.options
        )


def _upwards(path: str, mount: _Mount) -> Iterator[Path]:
    # A container may see its own group as the root of the mount; what lies beside that it cannot see.
    inside = os.path.relpath(path, mount.root)
    own = mount.directory if inside.split("/")[0] == ".." else mount.directory / inside
    for directory in (own, *own.parents):
        if directory.is_dir():
            yield directory
        if directory == mount.directory:
            return


def _mounts(proc: Path) -> list[_Mount]:
    found = []
    with contextlib.suppress(OSError):
        for line in (proc / "mountinfo").read_text().splitlines():
            place, _, system = line.partition(" - ")
            kind, *_, options = system.split()
            if kind in ("cgroup", "cgroup2"):
                root, directory = (field.replace("\\040", " ") for field in place.split()[3:5])
                found.append(_Mount(kind == "cgroup2", frozenset(options.split(",")), root, Path(directory)))
    return found


def _quota(group: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)  # "max" is not a number: no quota
    with contextlib.suppress(OSError, ValueError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return quota_us / int((group / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    return None


def _memory_limit(group: Path) -> Bytes | None:
    limit = _number(group, "memory.max", "memory.limit_in_bytes")
    return limit if limit is not None and limit < _NO_LIMIT else None


def _working_set(group: Path) -> Bytes:
    """Memory in use, without the file cache that the kernel would give back."""
    used = _number(group, "memory.current", "memory.usage_in_bytes") or 0
    stat = _table(group / "memory.stat")
    return used - stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _number(group: Path, *names: str) -> int | None:
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return int((group / name).read_text())
    return None


def _table(path: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in path.read_text().splitlines())
        return {key: int(value) for key, value in lines}
    return {}
