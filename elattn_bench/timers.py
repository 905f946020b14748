"""Clocks: how long a call takes on the device that runs it, with its caches hot or cold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Protocol

from elattn_bench import device as devices
from elattn_bench.units import Bytes, Seconds

SHORTEST_BLOCK: Seconds = 1e-3  # a shorter sample would be at the mercy of the call's own jitter
OVERHEAD_SHARE = 1e-3  # of a block that reading the clock may take
OVERHEAD_READINGS = 101
FLUSHES = 2  # times the last-level cache: it may not replace the oldest first, nor hold what inner caches do
GPU_COLD_CALLS = 100  # at most in one block: each flushes the cache, and their events wait in memory


class Clock(Protocol):
    """Times calls.

    min_block: how long a block must last, so that reading the clock does not count; 0 where every call
    is timed alone.
    """

    min_block: Seconds

    def now(self) -> Seconds:
        """Time on the wall, for budgets."""
        ...

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take, until the device is done."""
        ...


class CpuClock:
    """``perf_counter_ns``: on a CPU a call is done when it returns."""

    def __init__(self) -> None:
        self.min_block = _min_block(self)

    def now(self) -> Seconds:
        """Monotonic time in seconds."""
        return time.perf_counter()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls in a row take."""
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - start) * 1e-9


class ColdCpuClock:
    """Times every call alone, after writing over twice as many bytes as the last-level cache holds."""

    min_block: Seconds = 0.0

    def __init__(self, cache_bytes: Bytes) -> None:
        import torch

        self._clock = CpuClock()
        self._other = torch.zeros(FLUSHES * cache_bytes // 4, dtype=torch.int32)

    def now(self) -> Seconds:
        """Monotonic time in seconds."""
        return self._clock.now()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls take, the time between them left out."""
        total = 0.0
        for _ in range(calls):
            self._other.add_(1)
            total += self._clock.time(call, 1)
        return total


class CudaClock:
    """CUDA events around the calls: the device's own clock, without the host's launch jitter."""

    def __init__(self) -> None:
        self.min_block = _min_block(self)

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


class ColdCudaClock:
    """Events around every call, after clearing a buffer of exactly the L2 cache's size."""

    min_block: Seconds = 0.0

    def __init__(self, cache_bytes: Bytes) -> None:
        import torch

        self._other = torch.empty(cache_bytes, dtype=torch.uint8, device="cuda")

    def now(self) -> Seconds:
        """Monotonic time in seconds."""
        return time.perf_counter()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """How long so many calls take on the device, the time between them left out."""
        import torch

        total, left = 0.0, calls
        while left:
            pairs = []
            torch.cuda.synchronize()
            for _ in range(min(left, GPU_COLD_CALLS)):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                self._other.zero_()
                begin.record()
                call()
                end.record()
                pairs.append((begin, end))
            torch.cuda.synchronize()
            total += sum(begin.elapsed_time(end) for begin, end in pairs) * 1e-3
            left -= len(pairs)
        return total


def clock_for(device: str, cache: str = "hot", cache_bytes: Bytes | None = None) -> Clock:
    """The clock of a device.

    Args:
        cache: ``hot`` or ``cold``.
        cache_bytes: size of the last-level cache, which a cold clock flushes; the device's own if not given.
    """
    if cache == "cold":
        size = devices.cache_bytes(device) if cache_bytes is None else cache_bytes
        return ColdCudaClock(size) if device == "cuda" else ColdCpuClock(size)
    return CudaClock() if device == "cuda" else CpuClock()


def overhead(clock: Clock) -> Seconds:
    """What timing nothing takes: the median of many readings."""
    return statistics.median(clock.time(_nothing, 1) for _ in range(OVERHEAD_READINGS))


def _min_block(clock: CpuClock | CudaClock) -> Seconds:
    return max(SHORTEST_BLOCK, overhead(clock) / OVERHEAD_SHARE)


def _nothing() -> None:
    pass
