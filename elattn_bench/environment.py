"""Where a run was made: machine, versions, commit. The host's name stays out of it. No torch."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from elattn_bench import __version__, allowance, conditions
from elattn_bench.neighbours import CpuTimes, others_share
from elattn_bench.units import Bytes, Seconds

SAME_MACHINE = (
    "elattn_bench", "device", "device_name", "cpu_model", "cpu_cores", "torch", "threads", "threads_per_rank",
    "rank_hosts",
)  # fmt: skip
"""Rows of one run must agree in these; ``--resume`` refuses otherwise."""

PASSING = frozenset(
    {"cpu_busy_at_start", "load_average", "memory_available_bytes", "held_bytes", "timer_overhead_s"}
)
"""What differs from minute to minute on one machine; no difference between two runs."""

PEERS = ("flash-linear-attention", "fla-core", "flash-attn", "xformers")
"""Packages behind optional backends; ``fla-core`` holds the kernels of newer flash-linear-attention."""

_LOOK: Seconds = 0.5  # at who uses the CPU: the system counts in steps of 10 ms


def describe() -> dict[str, Any]:
    """What can be said without torch."""
    return {
        "elattn_bench": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_model": cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "cpu_threads": psutil.cpu_count() or 1,
        "memory_bytes": total_memory(),
        "numpy": version_of("numpy"),
        "triton": version_of("triton"),
        **peers(),
        **conditions.describe(),
    }


def peers() -> dict[str, str]:
    """Versions of other people's kernels, those that are installed; looked up, not imported."""
    found = {package: version_of(package) for package in PEERS}
    return {package.replace("-", "_"): known for package, known in found.items() if known}


def of_run(device: str, worker: Mapping[str, Any]) -> dict[str, Any]:
    """What a run on the device records: this machine, and what its worker says of torch and the device.

    Looks at the load for half a second: call it while the worker rests.
    """
    described = {"device": device, **describe(), **worker, "cpu_busy_at_start": round(busy_share(), 3)}
    described.setdefault("device_name", described["cpu_model"])
    return described


def differences(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    keys: tuple[str, ...],
    where: tuple[str, str] = ("there", "here"),
) -> list[str]:
    """What differs between two environments, for people."""
    return [
        f"{key}: {one.get(key)} {where[0]}, {other.get(key)} {where[1]}"
        for key in keys
        if one.get(key) is not None and one.get(key) != other.get(key)
    ]


def cpu_model() -> str:
    """The CPU's name as its maker writes it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def total_memory() -> Bytes:
    """Memory that this process may use: the machine's, or the container's if that is less."""
    machine, container = int(psutil.virtual_memory().total), allowance.memory_limit()
    return machine if container is None else min(machine, container)


def busy_share() -> float:
    """Share of the CPUs allowed to us that others use right now; looks for half a second.

    Our own worker is no other: threads of OpenMP spin for a while after their work.
    """
    before = CpuTimes.read(with_children=True)
    time.sleep(_LOOK)
    return others_share(before, CpuTimes.read(with_children=True))


def oom_kills() -> int | None:
    """How many processes the system's OOM killer has ended since boot; None where nobody counts."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/vmstat").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return None


def git_commit() -> str | None:
    """The commit of this tool's source, with ``+changes`` when the tree differs; None outside a checkout."""
    source = str(Path(__file__).resolve().parent.parent)
    commit = _output("git", "-C", source, "rev-parse", "--short=12", "HEAD")
    if not commit or not _output("git", "-C", source, "ls-files", "elattn_bench/environment.py"):
        return None
    return commit + ("+changes" if _output("git", "-C", source, "status", "--porcelain", "-uno") else "")


def _output(*command: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""


def version_of(package: str) -> str | None:
    """The package's version; None where it is not installed, and for no name."""
    if not package:
        return None
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None
