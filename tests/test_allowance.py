"""What containers and affinity leave to a process is read from the process's own groups, both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elattn_bench import allowance, environment
from elattn_bench.units import Bytes

GIB = 2**30
UNLIMITED_V1 = 9223372036854771712


def proc_of(tmp_path: Path, cgroup: str, *mounts: str) -> Path:
    """A /proc/self of a process in that group; in mounts, MOUNT stands for the directory of ``groups``."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup + "\n")
    lines = [f"{n} 1 0:{n} {mount}" for n, mount in enumerate(mounts)]
    (proc / "mountinfo").write_text("\n".join(lines).replace("MOUNT", str(tmp_path / "cgroup")))
    return proc


def group(tmp_path: Path, path: str, **files: str) -> None:
    """A control group with these files; two underscores stand for a dot."""
    directory = tmp_path / "cgroup" / path
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n")


V2 = "/ MOUNT rw - cgroup2 cgroup2 rw,nsdelegate"


def test_the_limits_of_version_2_are_those_of_the_own_group(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/user/job", V2)
    group(tmp_path, "user/job", cpu__max="150000 100000", memory__max=str(GIB))
    assert allowance.cpu_quota(proc) == 1.5
    assert allowance.memory_limit(proc) == GIB


def test_a_parents_lower_limit_counts(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/user/job", V2)
    group(tmp_path, "user", cpu__max="50000 100000", memory__max=str(GIB))
    group(tmp_path, "user/job", cpu__max="200000 100000", memory__max=str(2 * GIB))
    assert (allowance.cpu_quota(proc), allowance.memory_limit(proc)) == (0.5, GIB)


def test_another_groups_limit_does_not_count(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/mine", V2)
    group(tmp_path, "mine", cpu__max="max 100000", memory__max="max")
    group(tmp_path, "other", cpu__max="50000 100000", memory__max=str(GIB))
    assert (allowance.cpu_quota(proc), allowance.memory_limit(proc)) == (None, None)


def test_the_limits_of_version_1_stand_in_a_hierarchy_each(tmp_path: Path) -> None:
    proc = proc_of(
        tmp_path,
        "4:memory:/job\n3:cpu,cpuacct:/job",
        "/ MOUNT/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        "/ MOUNT/memory rw - cgroup cgroup rw,memory",
    )
    group(tmp_path, "cpu/job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    group(tmp_path, "memory/job", memory__limit_in_bytes=str(GIB))
    assert (allowance.cpu_quota(proc), allowance.memory_limit(proc)) == (3.0, GIB)


def test_version_1_writes_no_limit_as_minus_one_and_as_a_huge_number(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "4:memory,cpu:/", "/ MOUNT rw - cgroup cgroup rw,memory,cpu")
    group(
        tmp_path,
        "",
        cpu__cfs_quota_us="-1",
        cpu__cfs_period_us="100000",
        memory__limit_in_bytes=str(UNLIMITED_V1),
    )
    assert (allowance.cpu_quota(proc), allowance.memory_limit(proc)) == (None, None)


@pytest.mark.parametrize(
    ("path", "root"),
    [("/docker/abc", "/docker/abc"), ("/../outside", "/"), ("/docker/elsewhere", "/docker/abc")],
    ids=["own group mounted as root", "outside the namespace", "group not visible"],
)
def test_inside_a_container_the_mounts_root_is_the_containers_group(
    path: str, root: str, tmp_path: Path
) -> None:
    proc = proc_of(tmp_path, f"7:memory:{path}", f"{root} MOUNT rw - cgroup cgroup rw,memory")
    group(tmp_path, "", memory__limit_in_bytes=str(GIB))
    assert allowance.memory_limit(proc) == GIB


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert allowance.cpu_quota(tmp_path) is None
    assert allowance.memory_limit(tmp_path) is None
    assert allowance.memory_left(tmp_path) is None
    assert allowance.quota_periods(tmp_path) == {}


def test_files_that_hold_something_else_are_no_limit(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/", V2)
    group(tmp_path, "", cpu__max="", memory__max="plenty", cpu__stat="nr_periods\n")
    assert (allowance.cpu_quota(proc), allowance.memory_limit(proc)) == (None, None)
    assert allowance.quota_periods(proc) == {}


def test_file_cache_counts_as_memory_that_is_left(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/", V2)
    stat = f"anon 1\ninactive_file {GIB}"
    group(tmp_path, "", memory__max=str(4 * GIB), memory__current=str(3 * GIB), memory__stat=stat)
    assert allowance.memory_left(proc) == 2 * GIB


def test_the_machines_memory_is_the_containers_where_that_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(limit: Bytes | None) -> Bytes:
        monkeypatch.setattr(allowance, "memory_limit", lambda: limit)
        return environment.total_memory()

    whole = limited(None)
    assert limited(GIB // 4) == GIB // 4
    assert limited(2 * whole) == whole


def test_the_share_of_exhausted_periods_is_that_of_the_worst_group(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/user/job", V2)
    group(tmp_path, "user", cpu__stat="usage_usec 5\nnr_periods 100\nnr_throttled 10")
    group(tmp_path, "user/job", cpu__stat="nr_periods 50\nnr_throttled 0")
    before = allowance.quota_periods(proc)
    group(tmp_path, "user", cpu__stat="usage_usec 9\nnr_periods 120\nnr_throttled 15")
    group(tmp_path, "user/job", cpu__stat="nr_periods 60\nnr_throttled 1")
    assert allowance.exhausted_share(before, allowance.quota_periods(proc)) == 0.25
    assert allowance.exhausted_share(before, before) == 0.0


def test_a_group_without_a_quota_has_no_periods(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, "0::/", V2)
    group(tmp_path, "", cpu__stat="usage_usec 5\nnr_periods 0\nnr_throttled 0")
    assert allowance.quota_periods(proc) == {}


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to CPUs"
)
def test_the_cpus_allowed_are_those_of_all_threads() -> None:
    everywhere = os.sched_getaffinity(0)
    assert allowance.cpus() == everywhere
    try:
        os.sched_setaffinity(0, {min(everywhere)})
        # Other threads, as a test's timer, may still have all.
        assert min(everywhere) in allowance.cpus() <= everywhere
    finally:
        os.sched_setaffinity(0, everywhere)


def test_where_the_system_does_not_tell_all_cpus_are_allowed(tmp_path: Path) -> None:
    assert len(allowance.cpus(tmp_path)) >= 1
