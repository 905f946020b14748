"""The conditions that a run meets: CPUs allowed, clocks' policy, load, memory left; and what to warn of. No torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from elattn_bench import allowance
from elattn_bench.neighbours import DISTURBED
from elattn_bench.units import Bytes, format_bytes

SCARCE = 0.2  # of the memory: the default --memory-limit, 80 %, would not be reached before the system's end
_SYSTEM = Path("/sys")
_THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def describe(system: Path = _SYSTEM) -> dict[str, Any]:
    """What can be said of the machine's state now; None where the system does not tell.

    cpu_quota: CPUs' worth of time that the container grants; container_memory_bytes: its memory.
    load_average: tasks that ran or waited over the last minute, of the whole machine.
    thread_variables: the environment variables that set or bind threads, as ``NAME=value``.
    """
    return {
        "cpus_allowed": len(allowance.cpus()),
        "cpu_quota": allowance.cpu_quota(),
        "container_memory_bytes": allowance.memory_limit(),
        "memory_available_bytes": available_memory(),
        "load_average": load_average(),
        "cpu_governor": cpu_policy("scaling_governor", system),
        "cpu_frequency_driver": cpu_policy("scaling_driver", system),
        "cpu_turbo": turbo(system),
        "hugepages": hugepages(system),
        "on_battery": on_battery(),
        "thread_variables": thread_variables(os.environ),
    }


def available_memory() -> Bytes:
    """Memory that this process could take now without swapping, the container's limit kept."""
    free = int(psutil.virtual_memory().available)
    left = allowance.memory_left()
    return free if left is None else min(free, left)


def load_average() -> float | None:
    """Tasks that ran or waited, averaged over the last minute."""
    with contextlib.suppress(OSError, AttributeError):
        return round(os.getloadavg()[0], 2)
    return None


def cpu_policy(name: str, system: Path = _SYSTEM) -> str | None:
    """What a file of cpufreq says for the CPUs, each different value once."""
    values = {_text(path) for path in system.glob(f"devices/system/cpu/cpu[0-9]*/cpufreq/{name}")}
    return ", ".join(sorted(value for value in values if value)) or None


def turbo(system: Path = _SYSTEM) -> bool | None:
    """Whether CPUs may exceed their base clock while heat and power allow."""
    cpu = system / "devices/system/cpu"
    disabled, enabled = _text(cpu / "intel_pstate/no_turbo"), _text(cpu / "cpufreq/boost")
    if disabled is not None:
        return disabled == "0"
    return None if enabled is None else enabled == "1"


def hugepages(system: Path = _SYSTEM) -> str | None:
    """The setting of transparent huge pages: ``always``, ``madvise`` or ``never``."""
    text = _text(system / "kernel/mm/transparent_hugepage/enabled") or ""
    return text.partition("[")[2].partition("]")[0] or None


def on_battery() -> bool | None:
    """Whether the machine runs on its battery; None where it has none."""
    with contextlib.suppress(AttributeError, OSError, psutil.Error):
        battery = psutil.sensors_battery()
        if battery is not None and battery.power_plugged is not None:
            return not battery.power_plugged
    return None


def thread_variables(variables: Mapping[str, str]) -> str | None:
    """Those that change how many threads run or where."""
    names = sorted(name for name in variables if name.startswith(_THREAD_VARIABLES))
    return " ".join(f"{name}={variables[name]}" for name in names) or None


def warnings(described: Mapping[str, Any]) -> list[str]:
    """What speaks against measuring under these conditions: what happened, likely why, what to do.

    Args:
        described: what ``environment.of_run`` records. Entries that lack or are None warn of nothing.
    """
    found = [_busy(described), _scarce_memory(described), _battery(described)]
    if described.get("device") == "cpu":
        found += [_too_many_threads(described), _powersave(described)]
    return [warning for warning in found if warning]


def _busy(described: Mapping[str, Any]) -> str | None:
    busy = described.get("cpu_busy_at_start") or 0.0
    if busy <= DISTURBED:
        return None
    return (
        f"{busy:.0%} of the CPU is in use by other processes; latencies will be longer and noisier, "
        "short calls by far: stop what you can, or measure with fewer --threads"
    )


def _too_many_threads(described: Mapping[str, Any]) -> str | None:
    threads, quota = described.get("threads"), described.get("cpu_quota")
    allowed = described.get("cpus_allowed")
    grants = [grant for grant in (allowed, quota) if grant is not None]
    if threads is None or not grants or threads <= min(grants) or threads == 1:
        return None
    by = "the container's CPU quota" if min(grants) == quota and quota != allowed else "its CPU affinity"
    return (
        f"torch uses {threads} threads, but this process may use only {min(grants):g} CPUs, by {by}; "
        "threads that wait for each other lose whole time slices: "
        f"measure with --threads {max(1, int(min(grants)))}, or raise the limit"
    )


def _powersave(described: Mapping[str, Any]) -> str | None:
    if "powersave" not in (described.get("cpu_governor") or "").split(", "):
        return None
    return (
        "the CPU frequency governor is powersave; to save power, clocks follow the load late or stay low, so "
        "short calls look slower than they are: set it with 'sudo cpupower frequency-set -g performance'"
    )


def _scarce_memory(described: Mapping[str, Any]) -> str | None:
    total, available = described.get("memory_bytes"), described.get("memory_available_bytes")
    if not total or available is None or available >= SCARCE * total:
        return None
    return (
        f"only {format_bytes(available)} of {format_bytes(total)} memory is free; other programs or the "
        "container hold the rest, so large cases may swap or be killed: stop what you can, or give a "
        "--memory-limit below what is free"
    )


def _battery(described: Mapping[str, Any]) -> str | None:
    if not described.get("on_battery"):
        return None
    return "the machine runs on its battery; systems lower clocks to save it, and not evenly: plug it in"


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return None
