"""The state of the machine is recorded, and what speaks against measuring is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from elattn_bench import allowance, conditions, environment

GIB = 2**30
QUIET: dict[str, Any] = {
    "device": "cpu",
    "threads": 4,
    "cpus_allowed": 4,
    "cpu_quota": None,
    "memory_bytes": 16 * GIB,
    "memory_available_bytes": 12 * GIB,
    "cpu_governor": "performance",
    "on_battery": False,
    "cpu_busy_at_start": 0.02,
}


def warned(**changes: Any) -> str:
    return "\n".join(conditions.warnings({**QUIET, **changes}))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_a_quiet_machine_warns_of_nothing() -> None:
    assert warned() == ""


def test_what_is_not_known_warns_of_nothing() -> None:
    assert conditions.warnings({}) == []
    assert conditions.warnings({"device": "cpu"}) == []
    assert warned(**{key: None for key in QUIET if key != "device"}) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpu_busy_at_start": 0.5}, "50% of the CPU is in use by other processes"),
        (
            {"cpus_allowed": 2},
            "torch uses 4 threads, but this process may use only 2 CPUs, by its CPU affinity",
        ),
        ({"cpu_quota": 1.5}, "may use only 1.5 CPUs, by the container's CPU quota"),
        ({"cpu_governor": "powersave"}, "governor is powersave"),
        ({"cpu_governor": "performance, powersave"}, "governor is powersave"),
        ({"memory_available_bytes": GIB}, "only 1.00 GiB of 16.0 GiB memory is free"),
        ({"on_battery": True}, "runs on its battery"),
    ],
)
def test_each_condition_is_warned_of_alone(changes: dict[str, Any], said: str) -> None:
    found = conditions.warnings({**QUIET, **changes})
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_busy_at_start": 0.15},
        {"cpu_quota": 4.0},
        {"cpus_allowed": 8, "cpu_quota": 6.5},
        {"threads": 1, "cpu_quota": 0.5},
        {"cpu_governor": "schedutil"},
        {"memory_available_bytes": 4 * GIB},
    ],
    ids=str,
)
def test_what_is_just_good_enough_is_not_warned_of(changes: dict[str, Any]) -> None:
    assert warned(**changes) == ""


@pytest.mark.parametrize(
    ("quota", "advised"), [(3.9, "--threads 3,"), (1.5, "--threads 1,"), (0.4, "--threads 1,")]
)
def test_the_advised_threads_fit_the_quota(quota: float, advised: str) -> None:
    assert advised in warned(cpu_quota=quota)


def test_a_quota_like_the_affinity_is_the_affinitys_fault() -> None:
    assert "by its CPU affinity" in warned(cpus_allowed=2, cpu_quota=2.0)


def test_threads_and_governor_of_the_cpu_do_not_matter_to_a_gpu() -> None:
    assert warned(device="cuda", cpus_allowed=2, cpu_governor="powersave") == ""


def test_several_conditions_are_all_warned_of() -> None:
    assert len(conditions.warnings({**QUIET, "on_battery": True, "cpu_governor": "powersave"})) == 2


def test_the_governors_of_all_cpus_are_read(tmp_path: Path) -> None:
    for cpu, governor in enumerate(["powersave", "performance", "powersave"]):
        write(tmp_path / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor)
    assert conditions.cpu_policy("scaling_governor", tmp_path) == "performance, powersave"
    assert conditions.cpu_policy("scaling_driver", tmp_path) is None


@pytest.mark.parametrize(
    ("file", "text", "on"),
    [
        ("intel_pstate/no_turbo", "0", True),
        ("intel_pstate/no_turbo", "1", False),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
        ("unrelated", "1", None),
    ],
)
def test_turbo_is_read_where_its_driver_keeps_it(
    file: str, text: str, on: bool | None, tmp_path: Path
) -> None:
    write(tmp_path / "devices/system/cpu" / file, text)
    assert conditions.turbo(tmp_path) is on


def test_the_setting_of_huge_pages_is_the_bracketed_one(tmp_path: Path) -> None:
    assert conditions.hugepages(tmp_path) is None
    write(tmp_path / "kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    assert conditions.hugepages(tmp_path) == "madvise"


@pytest.mark.parametrize(
    ("battery", "answer"),
    [
        (None, None),
        (SimpleNamespace(power_plugged=None), None),
        (SimpleNamespace(power_plugged=True), False),
        (SimpleNamespace(power_plugged=False), True),
    ],
)
def test_a_machine_is_on_battery_when_it_has_one_and_is_unplugged(
    battery: object, answer: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert conditions.on_battery() is answer


def test_a_system_that_knows_no_batteries_is_not_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert conditions.on_battery() is None


def test_only_variables_about_threads_are_recorded() -> None:
    variables = {"OMP_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE", "HOME": "/home/someone", "TOKEN": "secret"}
    assert conditions.thread_variables(variables) == "MKL_DYNAMIC=FALSE OMP_NUM_THREADS=4"
    assert conditions.thread_variables({"HOME": "/home/someone"}) is None


def test_free_memory_is_at_most_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "memory_left", lambda: 1000)
    assert conditions.available_memory() == 1000
    monkeypatch.setattr(allowance, "memory_left", lambda: None)
    assert conditions.available_memory() > 1000


def test_a_run_records_the_conditions_and_the_worker_s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "busy_share", lambda: 0.4)
    described = environment.of_run("cpu", {"threads": 3})
    assert (described["threads"], described["cpu_busy_at_start"]) == (3, 0.4)
    assert described.keys() >= conditions.describe().keys()
    assert any("40% of the CPU" in warning for warning in conditions.warnings(described))


def test_conditions_that_change_by_the_minute_do_not_make_another_machine() -> None:
    assert not set(environment.SAME_MACHINE) & conditions.describe().keys()
