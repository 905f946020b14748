"""How much of the CPU others used while we measured. On few cores a neighbour spoils short calls silently."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from elattn_bench.units import Seconds

DISTURBED = 0.15  # of all cores; a busy neighbour on a small machine is far above, our own parent far below
SHORTEST: Seconds = 0.2  # the system counts in steps of 10 ms per core: below this a share means nothing


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """A reading: CPU seconds of the whole system and of this process, over all cores, and the time."""

    system: Seconds
    own: Seconds
    now: Seconds
    cores: int

    @classmethod
    def read(cls) -> CpuTimes:
        """The reading right now."""
        times = psutil.cpu_times()
        # Linux counts the time of guests in user and nice as well; stolen time is a neighbour's.
        counted = ("user", "nice", "system", "irq", "softirq", "steal")
        mine = psutil.Process().cpu_times()
        return cls(
            system=sum(getattr(times, name, 0.0) for name in counted),
            own=sum(mine[:4]),  # user and system, of this process and of its finished children
            now=time.monotonic(),
            cores=psutil.cpu_count() or 1,
        )


def others_share(before: CpuTimes, after: CpuTimes) -> float:
    """Share of all cores that other processes used in between; 0 where the time is too short to tell."""
    elapsed = after.now - before.now
    if elapsed < SHORTEST:
        return 0.0
    others = (after.system - before.system) - (after.own - before.own)
    return max(0.0, others / (elapsed * after.cores))
