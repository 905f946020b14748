"""How much of the CPU others used while we measured. On few cores a neighbour spoils short calls silently."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from elattn_bench import allowance
from elattn_bench.units import Seconds

DISTURBED = 0.15  # of our cores; a busy neighbour on a small machine is far above, our own parent far below
SHORTEST: Seconds = 0.2  # the system counts in steps of 10 ms per core: below this a share means nothing


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """A reading: CPU seconds of all processes on the cores allowed to us, those of this one, and the time."""

    system: Seconds
    own: Seconds
    now: Seconds
    cores: int

    @classmethod
    def read(cls, *, with_children: bool = False) -> CpuTimes:
        """The reading right now.

        Args:
            with_children: count living child processes as ours; finding them can take milliseconds.
        """
        every, allowed = psutil.cpu_times(percpu=True), allowance.cpus()
        # A neighbour on a core that we may not use does not disturb us.
        ours = [times for cpu, times in enumerate(every) if cpu in allowed] or every
        # Linux counts the time of guests in user and nice as well; stolen time is a neighbour's.
        counted = ("user", "nice", "system", "irq", "softirq", "steal")
        myself = psutil.Process()
        family = [myself, *(myself.children(recursive=True) if with_children else [])]
        return cls(
            system=sum(getattr(times, name, 0.0) for times in ours for name in counted),
            own=sum(map(_used, family)),
            now=time.monotonic(),
            cores=len(ours),
        )


def _used(process: psutil.Process) -> Seconds:
    with contextlib.suppress(psutil.Error):  # it ended just now
        return float(sum(process.cpu_times()[:4]))  # user and system, of itself and of its finished children
    return 0.0


def others_share(before: CpuTimes, after: CpuTimes) -> float:
    """Share of our cores that other processes used in between; 0 where the time is too short to tell."""
    elapsed = after.now - before.now
    if elapsed < SHORTEST:
        return 0.0
    others = (after.system - before.system) - (after.own - before.own)
    return min(1.0, max(0.0, others / (elapsed * after.cores)))
