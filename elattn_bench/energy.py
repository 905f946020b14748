"""Energy counters: what a CPU (RAPL) or a GPU (NVML) has used since some time past. Differences mean something."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elattn_bench.nvml import Gpu
from elattn_bench.units import Joules, Seconds

POWERCAP = Path("/sys/class/powercap")
UPDATES = (
    10  # of its counter that a window must span: less, and the counter's steps exceed 10 % of the energy
)
RAPL_UPDATE: Seconds = 1e-3  # Intel SDM volume 3, section "RAPL interfaces": about 1 ms
NVML_UPDATE: Seconds = (
    0.1  # Yang, Adamek & Armour 2024, "Accurate and convenient energy measurements for GPUs"
)


@dataclass(frozen=True, slots=True)
class Counter:
    """A reading. wraps_at: where the counter begins again from 0."""

    joules: Joules
    wraps_at: Joules = math.inf


Counters = Mapping[str, Counter]


def cpu_counters(powercap: Path = POWERCAP) -> Counters:
    """Readings of the CPU packages, and of their memory where it has a counter of its own.

    Empty where there are none or they may not be read: since 2020 Linux reserves them to root.
    """
    counters = {}
    with contextlib.suppress(OSError, ValueError):
        # Not the parts of a package (core, uncore) and not psys: what they use is counted already.
        for domain in sorted(powercap.glob("intel-rapl:*")):
            name = (domain / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                used, end = ((domain / file).read_text() for file in ("energy_uj", "max_energy_range_uj"))
                counters[domain.name] = Counter(int(used) * 1e-6, int(end) * 1e-6)
        return counters
    return {}


def gpu_counters(gpu: Gpu | None) -> Counters:
    """The reading of the GPU's board; empty where it has no such counter."""
    used = gpu.energy() if gpu else None
    return {} if used is None else {"gpu": Counter(used)}


def used(before: Counters, after: Counters) -> Joules | None:
    """What all counters gained between two readings; None where they cannot be compared."""
    if not before or before.keys() != after.keys():
        return None
    total = sum(_gain(before[name], after[name]) for name in before)
    return total if math.isfinite(total) else None


def _gain(before: Counter, after: Counter) -> Joules:
    gain = after.joules - before.joules
    return gain if gain >= 0 else gain + after.wraps_at
