"""Clocks: how long a call takes on the device that runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from elattn_bench.units import Seconds


class Clock(Protocol):
    """Times calls."""

    def now(self) -> Seconds:
        """Time on the wall, for budgets."""
        ...

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take, until the device is done."""
        ...


class CpuClock:
    """``perf_counter_ns``: on a CPU a call is done when it returns."""

    def now(self) -> Seconds:
        """Monotonic time in seconds."""
        return time.perf_counter()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take."""
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - start) * 1e-9


class CudaClock:
    """CUDA events around the calls: the device's own clock, without the host's launch jitter."""

    def now(self) -> Seconds:
        """Monotonic time in seconds."""
        return time.perf_counter()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take on the device."""
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3


def clock_for(device: str) -> Clock:
    """The clock of a device."""
    return CudaClock() if device == "cuda" else CpuClock()
